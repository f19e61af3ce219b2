#!/bin/sh
# Fetches Debian's stock kernel and unpacks what a small machine needs of it: kernel.sh DIRECTORY
# Nothing is installed: tests boot it under emulation, as a kernel with version 2 of control groups alone.
set -eu

directory=$1
[ ! -f "$directory/vmlinuz" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
cd "$work"
package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
apt-get download -qq -o APT::Sandbox::User=root "$package"
dpkg -x ./*.deb unpacked
for module in fuse/fuse overlayfs/overlay; do
    find unpacked -path "*/kernel/fs/$module.ko*" -exec cp {} "$directory" \;
done
mv unpacked/boot/vmlinuz-* "$directory/vmlinuz"
