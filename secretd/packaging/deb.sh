#!/bin/sh
# Builds a Debian package from the release: deb.sh BINARIES; prints its path.
set -eu

bin=$1
here=$(cd "$(dirname "$0")" && pwd)
version=$("$bin/sctl" --version | awk '{print $2}')
architecture=$(dpkg --print-architecture)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

DESTDIR=$root PREFIX=/usr "$here/install.sh" "$bin"
glibc=$(for name in secretd secret-fs sctl; do objdump -T "$bin/$name"; done | sed -n 's/.*GLIBC_\([0-9.]*\).*/\1/p' | sort -Vu | tail -1)
mkdir -p "$root/DEBIAN"
echo /etc/secretd/secretd.toml >"$root/DEBIAN/conffiles"
cat >"$root/DEBIAN/control" <<END
Package: secretd
Version: $version
Architecture: $architecture
Maintainer: The secretd maintainers <maintainers@secretd.invalid>
Section: admin
Priority: optional
Installed-Size: $(du -sk "$root" | cut -f1)
Depends: libc6 (>= $glibc)
Recommends: systemd
Description: compact container orchestrator that keeps secrets
 Services with secrets that rotate live, are audited at each read and can be
 revoked; sealed by the client, opened on the nodes that run their tasks alone.
END
cat >"$root/DEBIAN/postinst" <<'END'
#!/bin/sh
set -e
if command -v systemd-sysusers >/dev/null 2>&1; then
    systemd-sysusers /usr/lib/sysusers.d/secretd.conf
else
    getent group secretd >/dev/null || groupadd --system secretd
    getent passwd secret-fs >/dev/null || useradd --system --no-create-home --shell /usr/sbin/nologin secret-fs
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl enable --now secretd.service
fi
END
cat >"$root/DEBIAN/prerm" <<'END'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then systemctl disable --now secretd.service; fi
END
chmod 0755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm"
package=$bin/secretd_${version}_$architecture.deb
dpkg-deb --root-owner-group --build "$root" "$package" >/dev/null
echo "$package"
