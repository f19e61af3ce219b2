# What the demonstrations have in common; sourced by them, with the name of the one that runs in $0.

# sandbox UNSHARE-OPTION... -- COMMAND...: runs the demonstration again in namespaces, where its processes and mounts are:
# they are gone when it is.
sandbox() {
    if [ "$(id -u)" != 0 ]; then
        echo "$(basename "$0" .sh): root is needed, to make namespaces, mounts and control groups" >&2
        exit 1
    fi
    [ "${DEMO_SANDBOX-}" != yes ] || return 0
    work=$(mktemp -d /tmp/secretd-demo-XXXXXX)
    cgroup=/secretd-demo-$$
    trap 'rm -rf "$work"; find /sys/fs/cgroup -depth -type d -path "*$cgroup*" -exec rmdir {} + 2>/dev/null || true' EXIT
    trap 'exit 1' INT TERM
    DEMO_SANDBOX=yes DEMO_WORK=$work DEMO_CGROUP=$cgroup \
        unshare --pid --mount --mount-proc --fork --kill-child=KILL --propagation=private "$@"
    exit
}

bold=''
plain=''
if [ -t 1 ]; then
    bold=$(printf '\033[1m')
    plain=$(printf '\033[0m')
fi
step() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
# fail WHY...: ends the demonstration, with the last that the nodes have said.
fail() {
    echo "$(basename "$0" .sh): $*" >&2
    find "$DEMO_WORK" -maxdepth 2 -name log -exec tail -n 20 {} + >&2
    exit 1
}
