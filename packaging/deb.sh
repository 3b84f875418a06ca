#!/usr/bin/env bash
# Builds dist/poczta_VERSION_ARCH.deb. Needs Go and dpkg-deb. VERSION and ARCH may be set.
set -euo pipefail
cd "$(dirname "$0")/.."
VERSION=${VERSION:-0.1.0}
ARCH=${ARCH:-$(dpkg --print-architecture)}
OUT=${OUT:-dist}
case $ARCH in
amd64 | arm64 | riscv64 | s390x) goarch=$ARCH ;;
armhf) goarch=arm ;;
i386) goarch=386 ;;
ppc64el) goarch=ppc64le ;;
*) echo "architecture $ARCH is not known to this script: set ARCH" >&2; exit 1 ;;
esac
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
install -d "$root/DEBIAN" "$root/usr/bin" "$root/lib/systemd/system" "$root/usr/share/doc/poczta" "$root/usr/share/man/man8" "$root/etc/poczta"
if [ -n "${BINARY:-}" ]; then
	install -m 755 "$BINARY" "$root/usr/bin/poczta"
else
	CGO_ENABLED=0 GOARCH=$goarch go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o "$root/usr/bin/poczta" ./cmd/poczta
fi
install -m 644 packaging/systemd/*.service packaging/systemd/*.socket "$root/lib/systemd/system/"
install -m 644 docs/configuration.md docs/operations.md CHANGELOG.md "$root/usr/share/doc/poczta/"
[ ! -e README.md ] || install -m 644 README.md "$root/usr/share/doc/poczta/"
gzip -9n <packaging/poczta.8 >"$root/usr/share/man/man8/poczta.8.gz"
size=$(du -sk "$root" | cut -f1)
sed -e "s/@VERSION@/$VERSION/" -e "s/@ARCH@/$ARCH/" -e "s/@SIZE@/$size/" packaging/debian/control >"$root/DEBIAN/control"
for f in postinst prerm postrm; do install -m 755 "packaging/debian/$f" "$root/DEBIAN/$f"; done
mkdir -p "$OUT"
dpkg-deb --root-owner-group --build "$root" "$OUT/poczta_${VERSION}_${ARCH}.deb"
