#!/usr/bin/env bash
# Sets up VBG Camera for one user on macOS, and takes it away again.
#
# The picture reaches other programs through OBS Studio's virtual camera: they list it as
# "OBS Virtual Camera", because macOS shows the name of the extension that brings it.

set -euo pipefail

usage() {
    cat <<'TEXT'
usage: install/macos.sh [--dry-run] [--from PATH]
       install/macos.sh --uninstall [--purge] [--dry-run]
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
support="$HOME/Library/Application Support/vcam"
venv=$support/venv
agents=$HOME/Library/LaunchAgents
applications=${VCAM_APPLICATIONS:-/Applications}

dry='' remove='' purge='' from=''
while (($#)); do
    case $1 in
        --dry-run) dry=1 ;;
        --from) from=${2:?"--from needs a path"}; shift ;;
        --uninstall) remove=1 ;;
        --purge) purge=1 ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

say() { printf '%s\n' "$*"; }
mine() {
    say "  \$ $*"
    [[ $dry ]] || "$@"
}

# Start something at login: agent NAME ARGUMENT...
agent() {
    local name=$1 file=$agents/org.vbg-camera.$1.plist argument
    shift
    say "Login item: $file"
    [[ $dry ]] && return
    mkdir -p "$agents"
    {
        cat <<TEXT
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
  <key>Label</key><string>org.vbg-camera.$name</string>
  <key>ProgramArguments</key><array>
TEXT
        for argument; do printf '    <string>%s</string>\n' "$argument"; done
        cat <<'TEXT'
  </array>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>
  <key>ProcessType</key><string>Interactive</string>
</dict></plist>
TEXT
    } >"$file"
    launchctl unload "$file" 2>/dev/null || true
    launchctl load "$file"
}

if [[ $remove ]]; then
    for name in camera tray; do
        file=$agents/org.vbg-camera.$name.plist
        if [[ -e $file ]]; then
            mine launchctl unload "$file" || true
            mine rm -f "$file"
        fi
    done
    mine rm -rf "$venv"
    mine rm -f "$HOME/.local/bin/vcam"
    if [[ $purge ]]; then
        mine rm -rf "$support" "$HOME/Library/Caches/vcam" "$HOME/Library/Logs/vcam"
    else
        mine rm -rf "$support/rooms"  # pictures of a room, which nobody misses
        rmdir "$support" 2>/dev/null || say "Your settings stay in $support; --purge takes them too."
    fi
    exit 0
fi

if [[ -d $applications/OBS.app || -d $HOME/Applications/OBS.app ]]; then
    say "OBS Studio is there. Start its virtual camera once, so that macOS asks you to allow it."
else
    cat >&2 <<'TEXT'
! OBS Studio is missing: it brings the virtual camera.
  brew install --cask obs          or https://obsproject.com/download
  Start it, choose "Start Virtual Camera" once, allow it in System Settings, then stop it again.
TEXT
fi

python=''
for candidate in python3.13 python3.12 python3.11 python3.10 python3; do
    if command -v "$candidate" >/dev/null &&
        "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [[ -z $python ]]; then
    say "! Python 3.10 or newer is missing: brew install python" >&2
    exit 1
fi

say "Program: $venv"
[[ -x $venv/bin/python ]] || mine "$python" -m venv "$venv"
mine "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade \
    "${from:-$(dirname "$here")}"
mine "$venv/bin/python" "$here/trim.py"
mine mkdir -p "$HOME/.local/bin"
mine ln -sf "$venv/bin/vcam" "$HOME/.local/bin/vcam"
agent camera "$venv/bin/vcam" start --foreground
agent tray "$venv/bin/vcam" tray
say "macOS asks once whether the camera may be used. Then choose OBS Virtual Camera in your meeting."
