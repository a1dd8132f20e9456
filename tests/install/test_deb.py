"""install/deb.sh: the package is built, installed with apt and purged in a clean Debian 12."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.vm import machine
from vcam import __version__

from . import debian

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("VCAM_TEST_INSTALL") != "1",
        reason="set VCAM_TEST_INSTALL=1: it fetches Debian and takes two gigabytes of disk",
    ),
]


def test_the_package_brings_program_and_module_and_goes_without_a_trace(tmp_path: Path) -> None:
    if why := debian.missing():
        pytest.skip(why)
    system = debian.Debian(tmp_path / "root", machine.kernel())
    wheels = debian.wheels(tmp_path / "wheels", "hatchling")
    kernel = system.kernel.version
    system.run(
        f"apt-get update -qq; apt-get install -y -qq --no-install-recommends linux-headers-{kernel}"
    )
    files, packages = system.files(), system.packages()

    system.run("bash /repository/install/deb.sh /tmp", wheels=wheels)
    (package,) = (system.root / "tmp").glob("vbg-camera_*.deb")
    done = system.run(f"apt-get install -y --no-install-recommends /tmp/{package.name}")

    assert __version__ in package.name
    assert (system.root / f"lib/modules/{kernel}/updates/dkms/v4l2loopback.ko").exists()
    assert 'card_label="VBG Camera"' in (system.root / "etc/modprobe.d/vcam.conf").read_text()
    assert system.run("vcam --version").stdout.strip() == f"vcam {__version__}"
    portrait = "/opt/vbg-camera/lib/python3.11/site-packages/vcam/assets/portrait.jpg"
    system.run(f"vcam render {portrait} -o /tmp/out.png --background blur", network=False)
    assert (system.root / "tmp/out.png").stat().st_size > 10_000

    # apt keeps what came along as long as another package so much as suggests it; here nobody does.
    alone = "-o APT::AutoRemove::RecommendsImportant=0 -o APT::AutoRemove::SuggestsImportant=0"
    system.run(f"rm -r /root/.[cl]*; apt-get purge -y --auto-remove {alone} vbg-camera")

    # base-files makes /opt without owning it, so dpkg takes it away with the last package there.
    assert (system.files() ^ files) <= {"./opt"}, done.stdout[-3000:]
    assert system.packages() == packages
