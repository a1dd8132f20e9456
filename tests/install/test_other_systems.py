"""The set-up scripts of macOS and Windows, as far as they can be run on another system."""

from __future__ import annotations

import plistlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vcam.cli import build_parser
from vcam.frame import SafeFrame
from vcam.sinks import open_sinks

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


WINDOWS = REPOSITORY / "install/windows.ps1"
# What the script may call: PowerShell's own, by their full names, and Python's launcher.
CMDLETS = {
    *("Join-Path", "New-Object", "Remove-Item", "Set-StrictMode", "Split-Path", "Test-Path"),
    *("Write-Output", "Write-Warning", "py"),
}
APPROVED = {"Find", "New", "Remove", "Test"}  # verbs, of those that Get-Verb lists


def parsed(source: bytes) -> Any:
    """The root of the script's syntax tree."""
    tree_sitter = pytest.importorskip("tree_sitter", reason="pip install tree-sitter")
    grammar = pytest.importorskip(
        "tree_sitter_powershell", reason="pip install tree-sitter-powershell"
    )
    return tree_sitter.Parser(tree_sitter.Language(grammar.language())).parse(source).root_node


def nodes(root: Any, kind: str) -> Iterator[str]:
    """The text of every node of one kind."""
    if root.type == kind:
        yield root.text.decode()
    for child in root.children:
        yield from nodes(child, kind)


def test_the_windows_script_is_powershell() -> None:
    assert not parsed(WINDOWS.read_bytes()).has_error
    assert parsed(WINDOWS.read_bytes().replace(b"}\n\nif ($Uninstall)", b"\nif (")).has_error


def test_the_windows_script_calls_only_what_there_is() -> None:
    root = parsed(WINDOWS.read_bytes())
    functions = set(nodes(root, "function_name"))

    called = {name for name in nodes(root, "command_name") if not name.startswith("$")}

    assert len(called) > 8
    assert called <= CMDLETS | functions
    assert {name.split("-")[0] for name in functions} <= APPROVED


def test_the_windows_script_starts_commands_that_vcam_has() -> None:
    text = WINDOWS.read_text()

    started = re.findall(r"'\) += '(\w+)'|\.lnk'\) += '(\w+)'|& '?\$program'? (\w+)", text)
    commands = {word for groups in started for word in groups if word}

    assert commands == {"start", "stop", "tray", "open"}
    for command in commands:
        build_parser().parse_args([command])


class ObsCamera:
    """pyvirtualcam's camera on a system where OBS is installed."""

    def __init__(self, width: int, height: int, fps: float, **options: object) -> None:
        self.size, self.options, self.sent = (width, height), options, 0

    def send(self, frame: object) -> None:
        self.sent += 1

    def close(self) -> None:
        pass


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_elsewhere_the_picture_goes_to_obs_by_itself(
    system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("vcam.sinks.obs.pyvirtualcam.Camera", ObsCamera)

    with open_sinks("auto", 640, 360, 30) as sinks:
        (sink,) = sinks.opened
        assert sink is not None
        assert sink.name == "OBS Virtual Camera"
        assert sink.watchers() is None
        black = np.zeros((540, 640), np.uint8)
        sink.write(SafeFrame(black, 0.0, 0, is_card=True, maker="vcam.compose.card"))
        assert sink._camera.sent == 1  # type: ignore[attr-defined]
        assert sink._camera.options["backend"] == "obs"  # type: ignore[attr-defined]


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_elsewhere_without_obs_the_note_says_what_to_install(
    system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object, **__: object) -> None:
        raise RuntimeError("'obs' backend: virtual camera output could not be started")

    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("vcam.sinks.obs.pyvirtualcam.Camera", absent)

    with open_sinks("auto", 640, 360, 30) as sinks:
        assert sinks.opened == [None]
        assert "Install OBS Studio" in sinks.problems[0]
