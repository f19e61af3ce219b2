#!/bin/sh
# Installs the release below $DESTDIR with prefix $PREFIX (/usr): install.sh BINARIES
set -eu

bin=$1
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
root=${DESTDIR-}
prefix=${PREFIX:-/usr}

put() { install -D -m "$1" "$2" "$root$3"; }

for name in secretd secret-fs sctl; do put 0755 "$bin/$name" "$prefix/bin/$name"; done
put 0644 "$here/secretd.service" "$prefix/lib/systemd/system/secretd.service"
[ "$prefix" = /usr ] || sed -i "s|/usr/bin/|$prefix/bin/|" "$root$prefix/lib/systemd/system/secretd.service"
put 0644 "$here/secretd.sysusers" "$prefix/lib/sysusers.d/secretd.conf"
[ -e "$root/etc/secretd/secretd.toml" ] || put 0644 "$here/secretd.toml" /etc/secretd/secretd.toml
for name in README.md LICENSE-MIT LICENSE-APACHE; do put 0644 "$top/$name" "$prefix/share/doc/secretd/$name"; done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$bin/sctl" man "$work" >/dev/null
for page in "$work"/*.1; do put 0644 "$page" "$prefix/share/man/man1/$(basename "$page")"; done
"$bin/sctl" completion bash >"$work/bash" && put 0644 "$work/bash" "$prefix/share/bash-completion/completions/sctl"
"$bin/sctl" completion zsh >"$work/zsh" && put 0644 "$work/zsh" "$prefix/share/zsh/vendor-completions/_sctl"
"$bin/sctl" completion fish >"$work/fish" && put 0644 "$work/fish" "$prefix/share/fish/vendor_completions.d/sctl.fish"
