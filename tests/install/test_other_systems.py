"""The set-up scripts of macOS and Windows, as far as they can be run on another system."""

from __future__ import annotations

import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import NOTE, PYTHON, REPOSITORY


class Mac:
    """A home on a Mac whose launchctl and Python are small shell scripts."""

    def __init__(self, folder: Path) -> None:
        if not shutil.which("bash"):
            pytest.skip("apt-get install bash")
        self.home, self._calls = folder / "home", folder / "calls"
        stubs = folder / "bin"
        for path in (self.home / "Library", stubs, folder / "Applications"):
            path.mkdir(parents=True)
        names = ["launchctl", *(f"python3{minor}" for minor in ("", ".10", ".11", ".12", ".13"))]
        for name in names:
            (stubs / name).write_text(NOTE if name == "launchctl" else PYTHON)
            (stubs / name).chmod(0o755)
        self._environ = {
            "PATH": f"{stubs}:/usr/bin:/bin",
            "HOME": str(self.home),
            "CALLS": str(self._calls),
            "VCAM_APPLICATIONS": str(folder / "Applications"),
            "REFUSES_PIP": "",
        }

    def install(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(REPOSITORY / "install/macos.sh"), *options],
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []


@pytest.fixture
def mac(tmp_path: Path) -> Mac:
    return Mac(tmp_path)


def test_camera_and_tray_start_at_login_on_a_mac(mac: Mac) -> None:
    done = mac.install()

    assert done.returncode == 0, done.stderr
    program = str(mac.home / "Library/Application Support/vcam/venv/bin/vcam")
    agents = mac.home / "Library/LaunchAgents"
    started = {
        path.name: plistlib.loads(path.read_bytes())["ProgramArguments"]
        for path in agents.iterdir()
    }
    assert started == {
        "org.vbg-camera.camera.plist": [program, "start", "--foreground"],
        "org.vbg-camera.tray.plist": [program, "tray"],
    }
    assert [call.split()[:2] for call in mac.calls()].count(["launchctl", "load"]) == 2


def test_a_mac_without_obs_is_told_how_to_get_it(mac: Mac) -> None:
    assert "brew install --cask obs" in mac.install("--dry-run").stderr

    (mac.home / "Applications/OBS.app").mkdir(parents=True)

    assert "OBS Studio is there" in mac.install("--dry-run").stdout


def test_a_dry_run_on_a_mac_changes_nothing(mac: Mac) -> None:
    before = sorted(mac.home.rglob("*"))

    mac.install("--dry-run")

    assert sorted(mac.home.rglob("*")) == before
    assert mac.calls() == []


def test_uninstalling_on_a_mac_leaves_only_folders_of_the_system(mac: Mac) -> None:
    mac.install()

    assert mac.install("--uninstall").returncode == 0

    assert [path for path in mac.home.rglob("*") if not path.is_dir()] == []
    assert not (mac.home / "Library/Application Support/vcam").exists()


def test_powershell_can_read_the_windows_script() -> None:
    if not shutil.which("pwsh"):
        pytest.skip("install PowerShell (pwsh) to have install/windows.ps1 parsed")
    script = REPOSITORY / "install/windows.ps1"
    parse = (
        "$e = $null; [void][Management.Automation.Language.Parser]::ParseFile("
        f"'{script}', [ref]$null, [ref]$e); $e; exit $e.Count"
    )

    done = subprocess.run(
        ["pwsh", "-NoProfile", "-Command", parse], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout
