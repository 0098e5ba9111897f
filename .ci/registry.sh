# For .ci/conformance and .ci/clients, which source it: our registry on a free port of 127.0.0.1, for as
# long as the script runs, over the store that the script's arguments name (default: --store memory:).

unset AWS_CA_BUNDLE # meant for AWS, it would replace the one that Go's clients need

PROGRAM="${S3LAYERS:-${CARGO_TARGET_DIR:-target}/debug/s3layers}"
[[ -x "$PROGRAM" ]] || { echo "there is no $PROGRAM; cargo build, or name one in S3LAYERS"; exit 1; }

WORK="$(mktemp -d)"
REGISTRY_PID=""
# Other processes that the script started, the oldest first; they end before the registry.
PIDS=()

# stop PID: ends a process that this script started.
stop() {
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

# Ends what this script started, and nothing else.
registry_stop() {
    local code=0
    if [[ -n "$REGISTRY_PID" ]]; then
        kill -TERM "$REGISTRY_PID" 2>/dev/null || true
        wait "$REGISTRY_PID" || code=$?
        REGISTRY_PID=""
    fi
    return "$code"
}
cleanup() {
    local index
    for ((index = ${#PIDS[@]} - 1; index >= 0; index--)); do stop "${PIDS[index]}"; done
    registry_stop || true
    rm -rf "$WORK"
}
trap cleanup EXIT

# registry_start [option of serve …] -- [option of s3layers …]
# Sets REGISTRY to host:port; its access log is in $WORK/log.
registry_start() {
    local serve=() line
    while [[ $# -gt 0 && "$1" != -- ]]; do serve+=("$1"); shift; done
    shift
    [[ $# -gt 0 ]] || set -- --store memory:
    mkfifo "$WORK/said"
    "$PROGRAM" --json -v "$@" serve --listen "${LISTEN:-127.0.0.1:0}" "${serve[@]}" \
        </dev/null >"$WORK/said" 2>"$WORK/log" &
    REGISTRY_PID=$!
    exec 7<"$WORK/said"
    rm "$WORK/said"
    if ! IFS= read -r -t 60 line <&7 || [[ "$line" != *'"listening"'* ]]; then
        echo "the registry did not start: ${line:-}"
        cat "$WORK/log"
        exit 1
    fi
    REGISTRY="$(sed 's/.*"address":"\([^"]*\)".*/\1/' <<<"$line")"
}
