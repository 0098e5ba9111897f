# For scripts that source .ci/registry.sh: a private CA, certificates of it, and users with passwords.

certificate() { # name, subject alternative name, use
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" \
        -keyout "$WORK/$1.key" -out "$WORK/$1.csr" 2>/dev/null
    openssl x509 -req -in "$WORK/$1.csr" -CA "$WORK/ca.crt" -CAkey "$WORK/ca.key" -CAcreateserial -days 2 \
        -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=%s' "$2" "$3") -out "$WORK/$1.crt" 2>/dev/null
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=private-ca -days 2 \
    -addext basicConstraints=critical,CA:TRUE -keyout "$WORK/ca.key" -out "$WORK/ca.crt" 2>/dev/null

# crypt(3) of Debian knows bcrypt.
user() { perl -e 'print "$ARGV[0]:", crypt($ARGV[1], "\$2y\$08\$abcdefghijklmnopqrstuu"), "\n"' "$1" "$2"; }
