"""install/linux.sh with a real kernel, a real modprobe and the real v4l2loopback."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.vm import machine

from .conftest import REPOSITORY

pytestmark = [pytest.mark.vm, pytest.mark.slow]

# OBS' device is there first; then set up, set up again, look, take away.
STEPS = f"""
cd {REPOSITORY}
export XDG_DATA_HOME=/run/data
say() {{ echo "STEP $*"; }}
names() {{ (cd /sys/class/video4linux && for v in *; do echo "$v=$(cat $v/name)"; done); }}
files() {{ find /etc/modprobe.d /etc/modules-load.d /run/data 2>/dev/null | sort; }}
mkdir -p /etc/modprobe.d /etc/modules-load.d
echo 'options v4l2loopback video_nr=8 card_label="OBS Virtual Camera" exclusive_caps=1' \\
    > /etc/modprobe.d/obs.conf
files > /run/before
install/linux.sh --yes --module-only --no-packages; say first $?
names
echo "exclusive=$(cat /sys/module/v4l2loopback/parameters/exclusive_caps)"
files > /run/after; md5sum /etc/modprobe.d/* > /run/sums
install/linux.sh --yes --module-only --no-packages; say second $?
files | cmp - /run/after && md5sum /etc/modprobe.d/* | cmp - /run/sums && say same
modprobe -r v4l2loopback
modprobe v4l2loopback; say restarted; names | sort
install/linux.sh --yes --uninstall; say uninstalled $?
files | diff /run/before - && say clean
"""


def test_set_up_beside_obs_twice_and_taken_away_again(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("a Linux guest needs a Linux host")
    if lacking := machine.missing():
        pytest.skip(f"apt-get install {' '.join(lacking)}")
    try:
        outcome = machine.run(STEPS, tmp_path / "out", devices=(machine.WEBCAM,), timeout=900)
    except machine.Unbuilt as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the guest's kernel cannot be had: {error}")

    said = outcome.output
    for wanted in (
        "STEP first 0",
        "video8=OBS Virtual Camera",
        "video10=VBG Camera",
        "exclusive=Y,Y",
        "STEP second 0",
        "/dev/video10 is there already",
        "STEP same",
        "STEP uninstalled 0",
        "STEP clean",
    ):
        assert wanted in said, f"{wanted}\n{said}\n{outcome.console}"
    after_restart = said.split("STEP restarted")[1].split("STEP")[0]
    assert "video8=OBS Virtual Camera" in after_restart
    assert "video10=VBG Camera" in after_restart
