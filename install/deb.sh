#!/usr/bin/env bash
# Builds vbg-camera_VERSION_ARCH.deb: the program in /opt/vbg-camera with everything it needs, and
# v4l2loopback-dkms as a dependency. It fits the Debian or Ubuntu release it is built on.
#
# usage: install/deb.sh [FOLDER]       puts the package into FOLDER, by default dist/

set -euo pipefail
export PIP_NO_CACHE_DIR=1

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=$(dirname "$here")
out=${1:-$source/dist}
mkdir -p "$out"
out=$(cd "$out" && pwd)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"

home=/opt/vbg-camera
python=${PYTHON:-/usr/bin/python3}
version=$("$python" -c 'import re, sys; print(re.search(r"__version__ = \"([^\"]+)", open(sys.argv[1]).read())[1])' "$source/vcam/__init__.py")
minor=$("$python" -c 'import sys; print(sys.version_info[1])')
arch=$(dpkg --print-architecture)

echo "Program"
"$python" -m venv "$stage$home"
"$stage$home/bin/python" -m pip install --quiet --disable-pip-version-check "$source"
"$stage$home/bin/python" "$here/trim.py" --any-machine
"$stage$home/bin/python" -m pip uninstall --quiet --yes pip
# Scripts name the Python they run with: its place in the package, not in this folder.
grep -rlIZ --exclude-dir=site-packages "$stage" "$stage$home" | xargs -0r sed -i "s|$stage||g"

echo "Service, tray, menu entry, icon, completion, manual page"
put() { install -D -m 644 /dev/stdin "$stage$1"; }
sed "s|^ExecStart=.*bin/vcam|ExecStart=$home/bin/vcam|" "$here/vcam.service" |
    put /usr/lib/systemd/user/vcam.service
sed "s|^Exec=vcam|Exec=$home/bin/vcam|" "$here/vbg-camera.desktop" |
    put /usr/share/applications/vbg-camera.desktop
sed "s|^Exec=vcam|Exec=$home/bin/vcam|" "$here/vbg-camera-tray.desktop" |
    put /etc/xdg/autostart/vbg-camera-tray.desktop
put /usr/share/icons/hicolor/scalable/apps/vbg-camera.svg <"$here/icons/vbg-camera.svg"
put /usr/share/metainfo/io.vbg_camera.VBGCamera.metainfo.xml <"$here/vbg-camera.metainfo.xml"
put $home/install/linux.sh <"$here/linux.sh"
manual() { PYTHONPATH=$source "$stage$home/bin/python" -m vcam.manual "$1"; }
manual man | gzip -9n | put /usr/share/man/man1/vcam.1.gz
manual bash | put /usr/share/bash-completion/completions/vcam
manual zsh | put /usr/share/zsh/vendor-completions/_vcam
manual fish | put /usr/share/fish/vendor_completions.d/vcam.fish
put /usr/share/doc/vbg-camera/copyright <"$source/LICENSE"
put /usr/share/doc/vbg-camera/credits.md <"$source/docs/credits.md"
mkdir -p "$stage/usr/bin"
ln -s $home/bin/vcam "$stage/usr/bin/vcam"
find "$stage" -name __pycache__ -prune -exec rm -rf {} +

mkdir "$stage/DEBIAN"
cat >"$stage/DEBIAN/control" <<TEXT
Package: vbg-camera
Version: $version
Architecture: $arch
Maintainer: VBG Camera <vbg-camera@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$stage" | cut -f1)
Depends: python3 (>= 3.$minor), python3 (<< 3.$((minor + 1))), v4l2loopback-dkms (>= 0.12.5)
Recommends: v4l2loopback-utils, libturbojpeg0 | libturbojpeg
Section: video
Priority: optional
Description: virtual camera that shows you and never the room
 A background daemon reads the webcam, finds the person in every frame, puts a
 background of your choice behind them and shows the result as "VBG Camera".
TEXT
# The kernel's side is set up by the same script as without a package, so that the settings of
# other programs' loopbacks are kept; it remembers in /var/lib what it wrote.
cat >"$stage/DEBIAN/postinst" <<TEXT
#!/bin/sh
set -e
if [ "\$1" = configure ]; then
    unset SUDO_USER
    XDG_DATA_HOME=/var/lib/vbg-camera bash $home/install/linux.sh \\
        --yes --module-only --no-packages || true
fi
TEXT
cat >"$stage/DEBIAN/prerm" <<TEXT
#!/bin/sh
set -e
if [ "\$1" = remove ]; then
    unset SUDO_USER
    XDG_DATA_HOME=/var/lib/vbg-camera bash $home/install/linux.sh --yes --uninstall || true
    rm -rf /var/lib/vbg-camera
    find $home -name __pycache__ -prune -exec rm -rf {} +
fi
TEXT
chmod 755 "$stage/DEBIAN/postinst" "$stage/DEBIAN/prerm"
echo /etc/xdg/autostart/vbg-camera-tray.desktop >"$stage/DEBIAN/conffiles"

echo "Package"
dpkg-deb --root-owner-group -Zgzip -z6 --build "$stage" "$out/vbg-camera_${version}_$arch.deb"
