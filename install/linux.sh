#!/usr/bin/env bash
# Sets up VBG Camera on Debian, Ubuntu, Fedora, Arch and openSUSE, and takes it away again.
#
# Run it as yourself: it says before each step that needs root what it will do, and uses sudo for
# that step alone. Running it again changes nothing that is right already.

set -euo pipefail
export PIP_NO_CACHE_DIR=1  # its cache would be left behind

usage() {
    cat <<'TEXT'
usage: install/linux.sh [--dry-run] [--yes] [--no-module | --module-only] [--no-packages]
                        [--from PATH]
       install/linux.sh --uninstall [--purge] [--dry-run] [--yes]

  --dry-run      show every command, run none
  --yes          do not ask before starting
  --no-module    leave the kernel alone: program, service and tray only
  --module-only  the virtual camera only
  --no-packages  take it that v4l2loopback is installed
  --from PATH    install this wheel or source folder instead of the one around this script
  --uninstall    take away everything this script put there; your settings stay
  --purge        with --uninstall: your settings, backgrounds, cache and log too
TEXT
}

label='VBG Camera'
number=10                # of the virtual camera: /dev/video10, or the next one that is free
root=${VCAM_ROOT:-}      # stands before every system path; tests point it elsewhere
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

dry='' yes='' get=1 module=1 user_part=1 remove='' purge='' from=''
while (($#)); do
    case $1 in
        --dry-run) dry=1 ;;
        --yes | -y) yes=1 ;;
        --no-module) module='' ;;
        --module-only) user_part='' ;;
        --no-packages) get='' ;;
        --from) from=${2:?"--from needs a path"}; shift ;;
        --uninstall) remove=1 ;;
        --purge) purge=1 ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

data=${XDG_DATA_HOME:-$HOME/.local/share}
config=${XDG_CONFIG_HOME:-$HOME/.config}
cache=${XDG_CACHE_HOME:-$HOME/.cache}
state=${XDG_STATE_HOME:-$HOME/.local/state}
venv=$data/vcam/venv
manifest=$data/vcam/installed     # what --uninstall takes away: one path or package a line
kernel=$(uname -r)
failed=''

say() { printf '%s\n' "$*"; }
problem() { printf '! %s\n' "$*" >&2; failed=1; }

# Run a command as this user, or show it.
mine() {
    say "  \$ $*"
    [[ $dry ]] || "$@"
}

# Run a command as root, or show it.
as_root() {
    if ((EUID == 0)) || [[ $root ]]; then mine "$@"; else mine sudo "$@"; fi
}

have() { command -v "$1" >/dev/null 2>&1; }

# Remember that a path or package is ours.
note() {
    [[ $dry ]] && return
    mkdir -p "${manifest%/*}"
    grep -qxF -- "$1" "$manifest" 2>/dev/null || printf '%s\n' "$1" >>"$manifest"
}

# Write standard input to a file of the system, if that changes it.
root_file() {
    local path=$1 text
    text=$(cat)
    if [[ -f $root$path && $(<"$root$path") == "$text" ]]; then
        say "  $path is right already"
        return
    fi
    say "  writes $path:"
    printf '%s\n' "$text" | while IFS= read -r line; do say "      $line"; done
    [[ -d $root${path%/*} ]] || note "folder ${path%/*}"
    note "$path"
    [[ $dry ]] && return
    if ((EUID == 0)) || [[ $root ]]; then
        mkdir -p "$(dirname "$root$path")"
        printf '%s\n' "$text" >"$root$path"
    else
        sudo mkdir -p "$(dirname "$path")"
        printf '%s\n' "$text" | sudo tee "$path" >/dev/null
    fi
}

# Write standard input to a file of this user, if that changes it.
my_file() {
    local path=$1 text
    text=$(cat)
    if [[ -f $path && $(<"$path") == "$text" ]]; then return; fi
    say "  writes $path"
    [[ $dry ]] && return
    note "$path"
    mkdir -p "${path%/*}"
    printf '%s\n' "$text" >"$path"
}

# --- which system -------------------------------------------------------------------------------

distribution() {
    local ids=''
    if [[ -r $root/etc/os-release ]]; then
        ids=$(sed -n 's/^ID\(_LIKE\)\?="\?\([^"]*\)"\?$/\2/p' "$root/etc/os-release" | tr '\n' ' ')
    fi
    case " $ids " in
        *' debian '* | *' ubuntu '*) echo debian ;;
        *' fedora '*) echo fedora ;;
        *' arch '*) echo arch ;;
        *suse*) echo suse ;;
        *) echo unknown ;;
    esac
}

# Whether a package is there already, so that --uninstall leaves it.
installed() {
    case $system in
        debian) [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]] ;;
        fedora | suse) rpm -q "$1" >/dev/null 2>&1 ;;
        arch) pacman -Q "$1" >/dev/null 2>&1 ;;
    esac
}

# The packages that bring v4l2loopback for the running kernel, and a quicker JPEG decoder.
packages() {
    local package
    case $system in
        debian)
            # The exact headers build it now; the package without a number after each update.
            if apt-cache show "linux-headers-$kernel" >/dev/null 2>&1; then
                echo "linux-headers-$kernel"
            fi
            if apt-cache show "linux-headers-${kernel##*-}" >/dev/null 2>&1; then
                echo "linux-headers-${kernel##*-}"
            fi
            echo v4l2loopback-dkms
            echo v4l2loopback-utils
            if [[ $user_part ]]; then
                echo python3-venv
                # Decodes a webcam's JPEGs a quarter cheaper; Debian's name and Ubuntu's.
                for package in libturbojpeg0 libturbojpeg; do
                    if apt-cache show "$package" >/dev/null 2>&1; then
                        echo "$package"
                        break
                    fi
                done
            fi
            ;;
        fedora)
            echo "kernel-devel-$kernel"
            echo akmod-v4l2loopback
            echo v4l2loopback
            [[ $user_part ]] && echo turbojpeg
            ;;
        arch)
            local base=linux
            [[ -r $root/usr/lib/modules/$kernel/pkgbase ]] &&
                base=$(<"$root/usr/lib/modules/$kernel/pkgbase")
            echo "$base-headers"
            echo v4l2loopback-dkms
            echo v4l2loopback-utils
            ;;
        suse)
            echo "v4l2loopback-kmp-${kernel##*-}"
            echo v4l2loopback-utils
            [[ $user_part ]] && echo libturbojpeg0
            ;;
    esac
    return 0
}

# Every package that is installed, one a line, where apt is told which to take away again.
all_packages() {
    [[ $system == debian ]] || return 0
    dpkg-query -W -f '${db:Status-Abbrev} ${binary:Package}\n' 2>/dev/null |
        sed -n 's/^ii *//p' | sort || true
}

missing_packages() {
    local package
    missing=()
    while read -r package; do
        installed "$package" || missing+=("$package")
    done < <(packages)
}

install_packages() {
    local missing=() package before
    missing_packages
    if ((${#missing[@]} == 0)); then
        say "Packages: all there already"
        return
    fi
    if [[ $system == debian ]]; then
        say "Packages (root): looks up what there is"
        as_root apt-get update
        missing_packages  # old lists may not know this kernel's headers
    fi
    say "Packages (root): installs ${missing[*]}"
    before=$(all_packages)
    case $system in
        debian)
            # Recommended packages are no use here, and dkms would bring sudo, which does not go again.
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
                "${missing[@]}"
            ;;
        fedora)
            if ! rpm -q rpmfusion-free-release >/dev/null 2>&1; then
                say "  v4l2loopback comes from RPM Fusion, which is not set up yet"
                local free=https://mirrors.rpmfusion.org/free/fedora
                as_root dnf install -y "$free/rpmfusion-free-release-$(rpm -E %fedora).noarch.rpm"
                note "package rpmfusion-free-release"
            fi
            as_root dnf install -y "${missing[@]}"
            as_root akmods --force --kernels "$kernel"
            ;;
        arch) as_root pacman -S --needed --noconfirm "${missing[@]}" ;;
        suse) as_root zypper --non-interactive install "${missing[@]}" ;;
    esac
    for package in "${missing[@]}"; do note "package $package"; done
    [[ $dry ]] && return
    while read -r package; do
        [[ $package && " ${missing[*]} " != *" ${package%:*} "* ]] && note "dependency $package"
    done < <(comm -13 <(echo "$before") <(all_packages))
    return 0
}

# --- the virtual camera ---------------------------------------------------------------------------

# The device numbers that carry our label now.
our_devices() {
    local file
    for file in "$root"/sys/class/video4linux/video*/name; do
        [[ -r $file && $(<"$file") == "$label" ]] || continue
        file=${file%/name}
        echo "${file##*/video}"
    done
}

# Option lines of v4l2loopback that others wrote, joined; the last word on each option wins.
others_options() {
    local file
    while read -r file; do
        sed -n 's/^[[:space:]]*options[[:space:]]\{1,\}v4l2loopback[[:space:]]*//p' "$file"
    done < <(others_files) | tr '\n' ' '
}

others_files() {
    { find "$root/etc/modprobe.d" "$root/run/modprobe.d" "$root/usr/lib/modprobe.d" \
        "$root/lib/modprobe.d" -name '*.conf' ! -name vcam.conf ! -name zz-vcam.conf \
        -exec grep -lE '^[[:space:]]*options[[:space:]]+v4l2loopback\b' {} + 2>/dev/null || true; } |
        awk -F/ '{ print $NF "\t" $0 }' | sort -u -k1,1 | cut -f2
}

# One option's value from a line of options: option NAME LINE
option() {
    printf '%s\n' "$2" | grep -oE "(^|[[:space:]])$1=(\"[^\"]*\"|[^[:space:]]*)" | tail -n1 |
        sed -e 's/^[^=]*=//' -e 's/^"//' -e 's/"$//' || true
}

taken() {
    local wanted=$1 other
    [[ -e $root/sys/class/video4linux/video$wanted ]] && return 0
    for other in ${2//,/ }; do [[ $other == "$wanted" ]] && return 0; done
    return 1
}

# The options line that keeps others' devices and adds ours after them.
options_line() {
    local others devices numbers labels exclusive ours count i
    others=$(others_options)
    numbers=$(option video_nr "$others")
    labels=$(option card_label "$others")
    exclusive=$(option exclusive_caps "$others")
    devices=$(option devices "$others")
    local -a nrs=() names=() caps=()
    IFS=, read -r -a nrs <<<"$numbers"
    IFS=, read -r -a names <<<"$labels"
    IFS=, read -r -a caps <<<"$exclusive"
    count=0
    # As the module counts: what `devices` says, else as many as have a number, else one.
    [[ $others ]] && count=${devices:-$((${#nrs[@]} ? ${#nrs[@]} : 1))}
    ours=$(our_devices | head -n1)
    if [[ -z $ours ]]; then
        ours=$number
        while taken "$ours" "$numbers"; do ours=$((ours + 1)); done
    fi
    local line_nrs='' line_names='' line_caps=''
    for ((i = 0; i < count; i++)); do
        line_nrs+=${nrs[i]:--1},
        # A label left empty would stay empty; this is the module's own default.
        line_names+=${names[i]:-$(printf 'Dummy video device (0x%04X)' "$i")},
        line_caps+=${caps[i]:-0},
    done
    local rest
    rest=$(printf '%s\n' "$others" |
        sed -E 's/(^|[[:space:]])(devices|video_nr|card_label|exclusive_caps)=("[^"]*"|[^[:space:]]*)/ /g')
    local line="options v4l2loopback devices=$((count + 1)) video_nr=$line_nrs$ours"
    line+=" card_label=\"$line_names$label\" exclusive_caps=${line_caps}1"
    # What else others set (max_buffers, …) holds for every device and stays as it is.
    printf '%s\n' "$line" "$(xargs <<<"$rest")" | sed '/^$/d' | paste -sd' '
}

# Ours has to be read last, or the others' line takes our device away.
options_file() {
    local last
    last=$(others_files | awk -F/ '{ print $NF }' | sort | tail -n1)
    if [[ $last > vcam.conf ]]; then echo /etc/modprobe.d/zz-vcam.conf
    else echo /etc/modprobe.d/vcam.conf; fi
}

configure_module() {
    local line others
    line=$(options_line)
    others=$(others_files | sed "s|^$root||" | paste -sd' ')
    say "Module options (root): a virtual camera called \"$label\""
    [[ $others ]] && say "  keeps the devices of $others and adds ours beside them"
    root_file "$(options_file)" <<<"$line"
    say "Module at start-up (root)"
    root_file /etc/modules-load.d/vcam.conf <<<"v4l2loopback"
}

load_module() {
    local ours output
    if [[ $(our_devices) ]]; then
        say "Virtual camera: /dev/video$(our_devices | head -n1) is there already"
        return
    fi
    ours=$(options_line | sed -E 's/.*video_nr=([0-9,-]*).*/\1/; s/.*,//')
    if [[ -d $root/sys/module/v4l2loopback ]]; then
        say "Virtual camera (root): adds a device; those that others made stay"
        # The plain command is that of 0.13 and later, which also takes the older one's flags.
        as_root v4l2loopback-ctl add -n "$label" -x 1 "/dev/video$ours" ||
            problem "The device could not be added; it will be there after a restart."
    else
        say "Virtual camera (root): loads the module"
        if ! output=$(as_root modprobe v4l2loopback 2>&1); then
            say "$output"
            explain_module "$output"
            return
        fi
        say "$output"
    fi
    [[ $dry ]] && return
    have udevadm && udevadm settle --timeout=5 2>/dev/null
    if [[ $(our_devices) ]]; then
        say "  /dev/video$(our_devices | head -n1) is \"$label\""
    else
        problem "The module is loaded, but no device is called \"$label\"."
        say "  Close the programs that use it, then: sudo modprobe -r v4l2loopback && sudo modprobe v4l2loopback" >&2
    fi
}

# Why the kernel did not take the module.
explain_module() {
    case $1 in
        *'Key was rejected'* | *'Required key not available'* | *'Operation not permitted'*)
            problem "Secure Boot refuses the module: the key it is signed with is not enrolled."
            local key=/var/lib/dkms/mok.pub
            [[ $system == fedora ]] && key=/etc/pki/akmods/certs/public_key.der
            [[ $system == debian && ! -e $root$key && -e $root/var/lib/shim-signed/mok/MOK.der ]] &&
                key=/var/lib/shim-signed/mok/MOK.der
            cat >&2 <<TEXT
  1. sudo mokutil --import $key      (asks for a password you make up)
  2. restart; in the blue screen choose "Enroll MOK", "Continue", "Yes", type that password
  3. run this script again
TEXT
            ;;
        *'not found'*)
            problem "There is no v4l2loopback for kernel $kernel."
            say "  If the kernel was just updated, restart first. Otherwise \`dkms status\` says why it was not built." >&2
            ;;
        *) problem "The module was not loaded." ;;
    esac
}

video_group() {
    local me
    me=$(id -un)
    ((EUID == 0)) && return
    getent group video >/dev/null || return 0
    if id -nG "$me" | tr ' ' '\n' | grep -qx video; then return; fi
    say "Group video (root): lets $me open cameras, from the next login on"
    as_root usermod -aG video "$me"
    note "group video $me"
}

# --- the program ----------------------------------------------------------------------------------

python() {
    local candidate
    for candidate in python3.13 python3.12 python3.11 python3.10 python3; do
        if have "$candidate" &&
            "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
        then
            echo "$candidate"
            return
        fi
    done
    return 1
}

pip_install() {
    mine "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade "$1"
}

install_program() {
    local interpreter what=$from before
    if [[ -z $what && ! -f $here/../pyproject.toml ]]; then
        # This script came with the installed program: nothing to install, only to set up.
        venv=$(cd "$here/../../../../.." && pwd)
        say "Program: $venv"
        return
    fi
    if [[ -z $what ]]; then
        what=$(find "$here/../dist" -maxdepth 1 -name 'vbg_camera-*.whl' 2>/dev/null | sort -V | tail -n1 || true)
        [[ $what ]] || what=$(dirname "$here")
    fi
    say "Program: $venv"
    if [[ ! -x $venv/bin/python ]]; then
        if ! interpreter=$(python); then
            problem "Python 3.10 or newer with its venv module is missing."
            return
        fi
        mine "$interpreter" -m venv "$venv"
    fi
    note "$venv/"
    before=''
    [[ -x $venv/bin/vcam ]] && before=$("$venv/bin/vcam" --version 2>/dev/null || true)
    # Where an NVIDIA driver has a card, torch comes too, some gigabytes; if it does not, the
    # processor does the work.
    if ! { compgen -G '/proc/driver/nvidia/gpus/*' >/dev/null && pip_install "${what}[cuda]"; } &&
        ! pip_install "$what"
    then
        problem "pip could not install $what."
        return
    fi
    mine "$venv/bin/python" "$here/trim.py"
    if [[ ! -e $HOME/.local/bin/vcam ]]; then
        mine mkdir -p "$HOME/.local/bin"
        mine ln -s "$venv/bin/vcam" "$HOME/.local/bin/vcam"
        note "$HOME/.local/bin/vcam"
    fi
    case ":$PATH:" in
        *":$HOME/.local/bin:"*) ;;
        *) say "  $HOME/.local/bin is not in your PATH yet: log in again, or call $venv/bin/vcam" ;;
    esac
    if [[ -z $dry && $before && $before != "$("$venv/bin/vcam" --version)" ]]; then
        say "  A camera that runs now keeps running as $before until \`vcam stop\` and \`vcam start\`."
    fi
}

desktop_files() {
    say "Service, tray, menu entry, icon, completion, manual page"
    local name
    my_file "$config/systemd/user/vcam.service" \
        < <(sed "s|%h/.local/share|${data/#$HOME/%h}|" "$here/vcam.service")
    my_file "$data/applications/vbg-camera.desktop" \
        < <(sed "s|^Exec=vcam|Exec=$venv/bin/vcam|" "$here/vbg-camera.desktop")
    my_file "$config/autostart/vbg-camera-tray.desktop" \
        < <(sed "s|^Exec=vcam|Exec=$venv/bin/vcam|" "$here/vbg-camera-tray.desktop")
    my_file "$data/icons/hicolor/scalable/apps/vbg-camera.svg" <"$here/icons/vbg-camera.svg"
    [[ $dry ]] && return
    [[ -x $venv/bin/python ]] || return
    while read -r name path; do
        my_file "$path" < <("$venv/bin/python" -m vcam.manual "$name")
    done <<TEXT
bash $data/bash-completion/completions/vcam
zsh $data/zsh/site-functions/_vcam
fish $config/fish/completions/vcam.fish
man $data/man/man1/vcam.1
TEXT
}

enable_service() {
    if ! have systemctl || ! systemctl --user show-environment >/dev/null 2>&1; then
        say "Service: no systemd of yours runs here; start the camera with \`vcam start\`"
        return
    fi
    mine systemctl --user daemon-reload
    if ! systemctl --user is-enabled --quiet vcam.service 2>/dev/null; then
        mine systemctl --user enable vcam.service
        note "service vcam.service"
    fi
    # A camera that runs is in a call, perhaps: it is not restarted.
    if ! systemctl --user is-active --quiet vcam.service 2>/dev/null; then
        mine systemctl --user start vcam.service ||
            problem "The service did not start: journalctl --user -u vcam says why."
    fi
}

# --- taking it away -------------------------------------------------------------------------------

# Take away our packages and what came with them, unless something else needs that by now.
purge_packages() {
    local package all=("${packages[@]}") apt=(env DEBIAN_FRONTEND=noninteractive apt-get purge -y)
    while read -r package; do
        # Without sudo, a root who has no password could not log in any more.
        [[ $package == sudo && $(passwd -S root 2>/dev/null) != 'root P '* ]] && continue
        [[ " ${dependencies[*]%:*} " == *" ${package%:*} "* ]] && all+=("$package")
    done < <(apt-mark showauto 2>/dev/null)
    while read -r package; do
        [[ " ${all[*]%:*} " == *" ${package%:*} "* ]] && continue
        say "  $package needs some of what came with them; that stays"
        all=("${packages[@]}")
        apt+=(--auto-remove)
        break
    done < <(apt-get --simulate purge "${all[@]}" 2>/dev/null | sed -nE 's/^(Purg|Remv) ([^ ]+).*/\2/p')
    as_root "${apt[@]}" "${all[@]}"
}

uninstall() {
    if have systemctl && systemctl --user show-environment >/dev/null 2>&1; then
        mine systemctl --user disable --now vcam.service || true
    elif [[ -x $venv/bin/vcam ]]; then
        mine "$venv/bin/vcam" stop || true
    fi
    local entry packages=() dependencies=() folders=() made=()
    local keep=$manifest
    if [[ -r $manifest ]]; then
        while IFS= read -r entry; do
            case $entry in
                'package '*) packages+=("${entry#package }") ;;
                'dependency '*) dependencies+=("${entry#dependency }") ;;
                'group '*) read -r _ group who <<<"$entry"
                    say "Group $group (root): takes $who out again"
                    as_root gpasswd -d "$who" "$group" ;;
                'folder '*) made+=("${entry#folder }") ;;
                'service '*) ;;
                /etc/*) say "Removes $entry (root)"; as_root rm -f "$root$entry" ;;
                */) mine rm -rf "${entry%/}"; folders+=("${entry%/}") ;;
                *) mine rm -f "$entry"; folders+=("$entry") ;;
            esac
        done <"$manifest"
        for entry in "${made[@]}"; do
            [[ -d $root$entry && -z $(ls -A "$root$entry") ]] && as_root rmdir "$root$entry"
        done
    else
        say "Nothing to remove: $manifest is not there."
    fi
    if ((${#packages[@]})); then
        say "Packages (root): removes those that this script installed"
        case $system in
            debian) purge_packages ;;
            fedora) as_root dnf remove -y "${packages[@]}" ;;
            arch) as_root pacman -Rns --noconfirm "${packages[@]}" ;;
            suse) as_root zypper --non-interactive remove --clean-deps "${packages[@]}" ;;
        esac
    elif [[ -d $root/sys/module/v4l2loopback && $(our_devices) ]]; then
        say "  /dev/video$(our_devices | head -n1) goes away with the next restart"
    fi
    if [[ $purge ]]; then
        mine rm -rf "$config/vcam" "$cache/vcam" "$state/vcam" "$data/vcam"
    else
        mine rm -rf "$data/vcam/rooms"  # pictures of a room, which nobody misses
        mine rm -f "$keep"
        [[ -d $config/vcam || -d $data/vcam/backgrounds ]] &&
            say "Your settings and backgrounds stay; --purge takes them too."
    fi
    # Folders that are empty now, upwards to the home directory; rmdir leaves the others.
    local folder
    for folder in "${folders[@]}" "$keep" "$config/vcam" "$cache/vcam" "$state/vcam"; do
        folder=${folder%/*}
        while [[ $folder == "$HOME"/* && -z $dry ]] && rmdir "$folder" 2>/dev/null; do
            folder=${folder%/*}
        done
    done
    have systemctl && systemctl --user show-environment >/dev/null 2>&1 &&
        mine systemctl --user daemon-reload
    return 0
}

# --- main -----------------------------------------------------------------------------------------

system=$(distribution)
if ((EUID == 0)) && [[ ${SUDO_USER:-} && -z $root ]]; then
    say "Run this as yourself, not with sudo: it asks for root where it needs it." >&2
    exit 2
fi
if [[ -z $yes && -z $dry && -t 0 ]]; then
    if [[ $remove ]]; then question='Take VBG Camera away?'; else question='Set up VBG Camera?'; fi
    read -r -p "$question Every step is shown. [Y/n] " answer
    [[ ${answer:-y} == [Yy]* ]] || exit 1
fi

if [[ $remove ]]; then
    uninstall
    exit 0
fi

if [[ $module ]]; then
    if [[ -z $get ]]; then
        say "Packages: left as they are"
    elif [[ $system == unknown ]]; then
        problem "This distribution is not known here: install v4l2loopback 0.12.5 or newer yourself."
    elif ! install_packages; then
        problem "The packages were not installed."
    fi
    configure_module
    load_module
    video_group
fi
if [[ $user_part ]]; then
    install_program
    desktop_files
    enable_service
fi

if [[ $failed ]]; then
    say "Not everything worked: see the lines that begin with \"!\", or run \`vcam doctor\`."
    exit 1
fi
if [[ $dry ]]; then say "That is what would be done."
else say "Done. Choose \"$label\" as the camera in your meeting."; fi
