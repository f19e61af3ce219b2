#!/bin/bash
# Puts deliberate faults into a copy of this tree, one after the other, and looks whether the simulation catches them.
#
#   tests/faults.sh [--seeds N] [NAME ...]     all of tests/faults/*.patch, or those named
#
# A fault's file says what it does, which test is to catch it ("Test: managers" or "Test: clusters"), and may name a
# command that makes it ("Do: ..."). Prints a table; exit 1 when a fault is not caught or cannot be put in.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
seeds=200
[ "${1:-}" = --seeds ] && { seeds=$2; shift 2; }
scratch=${FAULTS_DIR:-$(mktemp -d)}
export CARGO_TARGET_DIR=${FAULTS_TARGET:-$scratch/target}
tree=$scratch/tree
mkdir -p "$tree"
names=("$@")
[ ${#names[@]} -eq 0 ] && names=($(cd "$root/tests/faults" && ls ./*.patch | sed 's|^\./||; s|\.patch$||'))

copy() {
    # What is the same stays as it is, so that only what a fault touches is built again.
    (cd "$root" && git ls-files --cached --others --exclude-standard) | while read -r file; do
        [ -f "$root/$file" ] || continue
        cmp -s "$root/$file" "$tree/$file" || { mkdir -p "$(dirname "$tree/$file")" && cp "$root/$file" "$tree/$file"; }
    done
}

try() {
    patch=$root/tests/faults/$1.patch
    copy || return 2
    (cd "$tree" && patch -sp1 --no-backup-if-mismatch < "$patch") || return 2
    make=$(sed -n 's/^Do: //p' "$patch")
    if [ -n "$make" ]; then (cd "$tree" && sh -c "$make") || return 2; fi
    test=$(sed -n 's/^Test: //p' "$patch")
    (cd "$tree" && cargo test --workspace --test simulation --no-run) > "$scratch/$1.build" 2>&1 || return 2
    (cd "$tree" && SEEDS=$seeds cargo test --workspace --test simulation -- --exact "${test}_keep_their_promises_under_faults" --nocapture) > "$scratch/$1.log" 2>&1
    grep -q '^replay: ' "$scratch/$1.log"
}

failed=0
printf '%-42s %-8s %-6s %s\n' fault caught seed 'what was seen'
for name in "${names[@]}"; do
    try "$name"
    case $? in
    0)
        seen=$(sed -n 's/^seed \([0-9]*\): /\1 /p' "$scratch/$name.log" | head -1)
        printf '%-42s %-8s %-6s %s\n' "$name" yes "${seen%% *}" "${seen#* }"
        ;;
    1) failed=1; printf '%-42s %-8s %-6s %s\n' "$name" NO - "not in $seeds seeds" ;;
    *) failed=1; printf '%-42s %-8s %-6s %s\n' "$name" - - "cannot be put in: see $scratch/$name.build" ;;
    esac
done
[ -z "${FAULTS_DIR:-}" ] && rm -rf "$scratch"
exit $failed
