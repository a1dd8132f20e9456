"""install/linux.sh on a clean Debian 12: real apt, real dkms, real pip; then a real kernel.

The tests go through one machine's life in order: set up, set up again, restarted, taken away.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest

from tests.vm import machine
from tests.vm.model import left_half_is_person

from . import debian
from .conftest import REPOSITORY

pytestmark = [
    pytest.mark.vm,
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("VCAM_VM") != "1",
        reason="set VCAM_VM=1: it fetches Debian and boots a kernel in software",
    ),
]

INSTALL = "/repository/install/linux.sh --yes"
FROM = "--from /wheels/vbg_camera-*.whl"
MANIFEST = "/root/.local/share/vcam/installed"
TIMEOUT = float(os.environ.get("VCAM_VM_TIMEOUT", "1500"))  # seconds
# An emulated processor is not the one that Numba compiled for, and compiling there takes minutes.
PORTABLE = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "PYTHONDONTWRITEBYTECODE": "1"}
WARM = "import vcam.pipeline, vcam.compose.compositor, vcam.sources.decode, segmentation.segmenter"

# In the guest, inside the clean Debian. Packages and the program's folder are there, as after a
# first run under another kernel; everything else of ours is taken away again before it begins.
BEFORE = f"""
rm /usr/local/sbin/uname /usr/local/sbin/modprobe
sed -i '/^package /d; /venv\\/$/d' {MANIFEST}
{INSTALL} --uninstall >/dev/null 2>&1
echo 'options v4l2loopback video_nr=8 card_label="OBS Virtual Camera" exclusive_caps=1' \\
    > /etc/modprobe.d/obs.conf
files > /run/before
{INSTALL} --no-packages {FROM}; say first $?
names
echo "exclusive=$(cat /sys/module/v4l2loopback/parameters/exclusive_caps)"
modinfo -F filename v4l2loopback
files > /run/after; md5sum /etc/modprobe.d/* > /run/sums
/root/.local/bin/vcam start --source /dev/video0 --sink /dev/video10 --background '#00ff00'
say started $?
"""
AGAIN = f"""
{INSTALL} --no-packages {FROM}; say second $?
files | diff /run/after - && md5sum /etc/modprobe.d/* | cmp - /run/sums && say same
"""
AFTER = f"""
/root/.local/bin/vcam status
/root/.local/bin/vcam stop; say stopped $?
modprobe -r v4l2loopback && modprobe v4l2loopback; say restarted; names | sort
{INSTALL} --uninstall --purge; say uninstalled $?
files | diff /run/before - && ! ls -d /root/.cache/vcam /root/.local/* && say clean
"""
COMMON = """
say() { echo "STEP $*"; }
names() { (cd /sys/class/video4linux && for v in *; do echo "$v=$(cat $v/name)"; done); }
# What a running camera writes, and the program's own folder, are looked at by themselves.
files() { find /etc /root /usr/local /opt /var/lib \\( -path /root/.local/share/vcam/venv \\
    -o -path /root/.cache -o -path /root/.local/state \\) -prune -o -print |
    grep -vxE '/root/.local(/share(/vcam)?)?' | sort; }
"""
# Another program in a call.
READ = """
import sys, time
from tests.vm.reader import Reader

with Reader("/dev/video10") as reader:
    print("STEP live", round(reader.until("live", 400), 1), flush=True)
    shown = []
    # A card in between is right where an emulated processor was late.
    while shown.count("live") < 20 and len(shown) < 200:
        if data := reader.picture(30):
            shown.append(reader.shows(data))
    live = shown.count("live")
    print("STEP shown", "live" if live == 20 else f"live {live} times", flush=True)
    print("STEP never", *sorted(set(shown) - {"live", "card"}), flush=True)
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if why := debian.missing():
        pytest.skip(why)
    return debian.wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> debian.Debian:
    """A clean Debian before anything of ours."""
    if lacking := machine.missing():
        pytest.skip(f"apt-get install {' '.join(lacking)}")
    made = debian.Debian(tmp_path_factory.mktemp("debian") / "root", machine.kernel())
    made.before = made.files(), made.packages()
    return made


def test_one_command_sets_up_a_clean_debian(system: debian.Debian, wheels: Path) -> None:
    done = system.run(f"{INSTALL} {FROM}", wheels=wheels)

    kernel = system.kernel.version
    assert "Done." in done.stdout
    assert (system.root / f"lib/modules/{kernel}/updates/dkms/v4l2loopback.ko").exists()
    assert 'card_label="VBG Camera"' in (system.root / "etc/modprobe.d/vcam.conf").read_text()
    portrait = "/root/.local/share/vcam/venv/lib/python3.11/site-packages/vcam/assets/portrait.jpg"
    system.run(
        f"/root/.local/bin/vcam render {portrait} -o /tmp/out.png --background blur", network=False
    )
    assert (system.root / "tmp/out.png").stat().st_size > 10_000


def test_a_second_run_changes_nothing(system: debian.Debian, wheels: Path) -> None:
    before = system.files()

    done = system.run(f"{INSTALL} {FROM}", wheels=wheels)

    assert "Packages: all there already" in done.stdout
    assert system.files() == before


def test_the_real_module_brings_composited_frames_to_a_reader(
    system: debian.Debian, wheels: Path, tmp_path: Path
) -> None:
    environ = PORTABLE | {
        "HOME": "/root",
        "XDG_RUNTIME_DIR": "/run/user",
        "PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "/wheels",
        "VCAM_CAMERA_WIDTH": "640", "VCAM_CAMERA_HEIGHT": "360", "VCAM_CAMERA_FPS": "15",
        "VCAM_OUTPUT_WIDTH": "640", "VCAM_OUTPUT_HEIGHT": "360", "VCAM_OUTPUT_FPS": "15",
        "VCAM_MATTE_MODEL": "/run/vm/out/half.xml", "VCAM_PRIVACY_DEADLINE": "5",
    }  # fmt: skip
    exports = " ".join(f"{key}={shlex.quote(value)}" for key, value in environ.items())
    # The machine's cache of compiled loops, made here for the guest's plain processor.
    warm = " ".join(f"{key}={value}" for key, value in PORTABLE.items())
    system.run(f"cd /tmp; {warm} /root/.local/share/vcam/venv/bin/python -c '{WARM}'")
    out = tmp_path / "out"
    out.mkdir()
    left_half_is_person(out / "half.xml")
    root, inside = system.root, {}
    for name, steps in (("before", BEFORE), ("again", AGAIN), ("after", AFTER)):
        (out / f"{name}.sh").write_text(COMMON + steps)
        inside[name] = f"env -i {exports} chroot {root} bash /run/vm/out/{name}.sh"
    (out / "read.py").write_text(READ)
    read = f"(cd {REPOSITORY} && PYTHONPATH={REPOSITORY} {sys.executable} {out}/read.py)"
    script = f"""
        mkdir -p -m 700 /run/user; mkdir -p /run/vm/out; mount --bind {out} /run/vm/out
        for folder in proc sys dev run; do mount --rbind /$folder {root}/$folder; done
        mount --bind {REPOSITORY} {root}/repository; mount --bind {wheels} {root}/wheels
        {inside["before"]}
        {read}
        {inside["again"]}
        {read}
        {inside["after"]}
        find {root}/root/.local/state/vcam -name '*.log' -exec tail -n 40 {{}} +
    """
    outcome = machine.run(script, out, devices=(machine.WEBCAM,), timeout=TIMEOUT, environ=PORTABLE)

    said = outcome.output
    (tmp_path / "said").write_text(said)
    for wanted in (
        "STEP first 0",
        "video8=OBS Virtual Camera",
        "video10=VBG Camera",
        "exclusive=Y,Y",
        "updates/dkms/v4l2loopback.ko",
        "STEP started 0",
        "STEP shown live\n",
        "STEP second 0",
        "/dev/video10 is there already",
        "STEP same",
        "STEP stopped 0",
        "STEP uninstalled 0",
        "STEP clean",
    ):
        assert wanted in said, f"{wanted}\n{said}\n{outcome.console}"
    assert said.count("STEP shown live\n") == 2, said  # the call went on during the second run
    assert said.count("STEP never\n") == 2, said  # the room, or anything but composites and cards
    after_restart = said.split("STEP restarted")[1].split("STEP")[0]
    assert "video8=OBS Virtual Camera" in after_restart
    assert "video10=VBG Camera" in after_restart


def test_uninstalling_restores_the_list_of_files_and_packages(
    system: debian.Debian, wheels: Path
) -> None:
    done = system.run(f"{INSTALL} --uninstall --purge", wheels=wheels, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    files, packages = system.before
    assert sorted(system.files() ^ files) == []
    assert system.packages() == packages
