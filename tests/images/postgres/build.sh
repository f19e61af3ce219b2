#!/bin/sh
# Builds the root filesystem of the PostgreSQL image from Debian's packages: build.sh OUTPUT.tar
# An existing output is kept. Needs root and debootstrap.
set -eu

output=$1
here=$(cd "$(dirname "$0")" && pwd)
[ ! -e "$output" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

# The mirror that this machine's apt uses, so that a local mirror or proxy works here too.
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
debootstrap --variant=minbase --include=postgresql-15 bookworm "$work/root" "${mirror:-http://deb.debian.org/debian}" >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log" >&2; exit 1; }

root=$work/root
ln -s /usr/lib/postgresql/15/bin/* "$root/usr/local/bin/" 2>/dev/null || true
install -m 0755 "$here/entrypoint.sh" "$root/usr/local/bin/entrypoint.sh"
sed -i "s/^#\?listen_addresses = .*/listen_addresses = '*'/" "$root/usr/share/postgresql/15/postgresql.conf.sample"
rm -rf "$root/var/lib/postgresql/15" "$root/var/cache/apt" "$root/var/lib/apt/lists" "$root/usr/share/doc" \
    "$root/usr/share/man" "$root/usr/share/locale"
mkdir -p "$root/var/cache/apt" "$root/var/lib/apt/lists" "$root/run/postgresql"
chown postgres "$root/run/postgresql" 2>/dev/null || chroot "$root" chown postgres:postgres /run/postgresql

mkdir -p "$(dirname "$output")"
tar --create --numeric-owner --one-file-system --exclude=./dev/* --directory "$root" --file "$output.new" .
mv "$output.new" "$output"
