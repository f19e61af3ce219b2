#!/bin/sh
# Fetches Docker as Debian packages it and unpacks it below a directory, without installing it: peer.sh DIRECTORY
# The benchmark measures it in the same run. What it fetches is neither part of secretd nor needed by it.
set -eu

mkdir -p "$(dirname "$1")"
directory=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
[ ! -x "$directory/usr/sbin/dockerd" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get update -qq
apt-get download -qq -o APT::Sandbox::User=root docker.io containerd runc
mkdir -p unpacked
for package in ./*.deb; do dpkg -x "$package" unpacked; done
rm -rf "$directory"
mv unpacked "$directory"
