# For scripts that use programs of Debian without installing them.

# debian_unpack FOLDER PACKAGE …: unpacks packages there, once. A folder that is there is whole.
debian_unpack() {
    local folder="$1" partial package
    shift
    [[ ! -d "$folder" ]] || return 0
    mkdir -p "$(dirname "$folder")"
    partial="$(mktemp -d "$folder.XXXXXX")"
    chmod 755 "$partial"
    mkdir "$partial/packages"
    (
        cd "$partial/packages"
        download=(apt-get download -qq -o APT::Sandbox::User=root "$@")
        "${download[@]}" 2>/dev/null || { apt-get update -qq && "${download[@]}"; }
    ) || { rm -rf "$partial"; return 1; }
    for package in "$partial"/packages/*.deb; do
        dpkg -x "$package" "$partial" || { rm -rf "$partial"; return 1; }
    done
    mv -T "$partial" "$folder"
}
