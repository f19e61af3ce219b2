#!/bin/sh
# Installs the Debian packages that the build, the tests and the demonstration need, where they are missing.
# prepare.sh [build|demo|test]
set -eu

missing=
need() { # need COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

need cc gcc
need make make
case "${1:-test}" in
demo | test)
    need debootstrap debootstrap
    need busybox busybox-static
    need unshare util-linux
    need nsenter util-linux
    ;;
esac
case "${1:-test}" in
test)
    need docker-registry docker-registry
    need skopeo skopeo
    need umoci umoci
    need qemu-system-x86_64 qemu-system-x86
    need cpio cpio
    need strip binutils
    need openssl openssl
    need htpasswd apache2-utils
    need ip iproute2
    need nft nftables
    need strace strace
    need systemd-analyze systemd
    ;;
esac
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "prepare.sh: missing packages:$missing (install them as root: apt-get install$missing)" >&2
    exit 1
fi
echo "Installing$missing"
apt-get update -qq
# shellcheck disable=SC2086 # a list of package names
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
