"""What README and guides tell people to type is run, and what they quote is really there.

Nothing here touches the machine: packages, kernel and root are stand-ins, the webcam is the demo.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.vcam.clips import make_clip
from tests.vcam.test_doctor import FAULTS, HEALTHY
from vcam.cli import build_parser
from vcam.doctor.report import report, run_checks
from vcam.settings import config

from .conftest import REPOSITORY, Machine

GUIDES = sorted({"README.md", *(f"docs/{p.name}" for p in (REPOSITORY / "docs").glob("*.md"))})
OURS = ("vcam", "install/linux.sh", "make", "python -m", "pip")
# Answers that are no failure: the doctor tells what it finds here, and a change may be too old.
CODES = {"vcam doctor": {0, 1}, "vcam undo": {0, 1}}
# Too long, or for hardware that few have: the program reads the words, and that is all.
READ_ONLY = (
    *("vcam tray", "vcam bench --engine cuda", "vcam devices --set"),
    *("python -m train", "python -m tests", "python -m vcam.install.trim", "pip", "make"),
)
# So that a benchmark of a minute becomes one of a second.
SHORT = {"vcam bench": " --frames 2 --case 720p-yuyv-picture"}
# Named in a sentence, without what it needs.
NAMED = {
    "vcam render": "vcam render --help",
    "vcam personalise": "vcam personalise --help",  # wants a webcam, and ten minutes
}


def text(guide: str) -> str:
    return (REPOSITORY / guide).read_text(encoding="utf-8")


def commands(guide: str) -> list[str]:
    """Every line of a `sh` block, and what stands between backticks and begins as ours do."""
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text(guide), re.S))
    lines = blocks.replace("\\\n", " ").splitlines()
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text(guide), flags=re.S))
    found = [line.split(" #")[0].strip() for line in lines]
    found += [words for words in inline if re.match(rf"({'|'.join(OURS)}) [a-z-]", f"{words} ")]
    return list(dict.fromkeys(line for line in found if line))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    if sys.platform != "linux":
        pytest.skip("the guides' scripts are for Linux")
    made = Desk(tmp_path_factory.mktemp("desk"))
    yield made
    made.close()


class Desk:
    """A user at a terminal in a clone of the repository."""

    def __init__(self, folder: Path) -> None:
        machine = Machine(folder, "debian")
        self._folder = folder / "clone"
        self._folder.mkdir()
        for name in ("install", "Makefile", "config.toml", "train", "tests", "pyproject.toml"):
            (self._folder / name).symlink_to(REPOSITORY / name)
        self._runtime = folder / "run"
        self._runtime.mkdir(mode=0o700)
        programs = {
            "vcam": f'exec {sys.executable} -m vcam "$@"',
            "python": f'exec {sys.executable} "$@"',
            "sudo": 'exec "$@"',
            "mokutil": "exit 0",
            "usermod": "exit 0",
        }
        for name, line in programs.items():
            (folder / "bin" / name).write_text(f"#!/bin/bash\n{line}\n")
            (folder / "bin" / name).chmod(0o755)
        self._environ = machine.environ | {
            "PYTHONPATH": str(REPOSITORY),
            "XDG_RUNTIME_DIR": str(self._runtime),
            "VCAM_CAMERA_SOURCE": "demo",
            "VCAM_OUTPUT_SINK": "none",
            "BROWSER": "true",
            "LD_BIND_NOW": os.environ.get("LD_BIND_NOW", ""),
        }
        portrait = REPOSITORY / "vcam/assets/portrait.jpg"
        for name in ("holiday.jpg", "portrait.jpg"):
            shutil.copy(portrait, self._folder / name)
        for name in ("holiday.mp4", "recording.mp4"):
            make_clip(self._folder / name)
        (self._folder / "my.toml").touch()
        self._running = False

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """Type one line; the camera runs unless it is the line that starts it."""
        words = shlex.split(line)
        if words[:2] == ["vcam", "start"]:
            self._type("vcam stop")
            self._running = True
        elif words[1:2] not in (["render"], ["bench"], ["config"], ["doctor"], ["-m"]):
            if words[0] in ("vcam", "curl") and not self._running:
                assert self._type("vcam start").returncode == 0
                self._running = True
            self._running &= words[:2] != ["vcam", "stop"]
        # curl counts what the server refuses as done, unless it is told otherwise.
        line = re.sub("^curl ", "curl --silent --fail ", line)
        return self._type(line + SHORT.get(" ".join(words[:2]), ""))

    def _type(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", line],
            env=self._environ, cwd=self._folder, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def close(self) -> None:
        self._type("vcam stop")


def read_only(line: str) -> None:
    """Let the programs behind a line read their words without doing anything."""
    if ";" in line:
        for part in line.split(";"):
            read_only(part)
        return
    words = shlex.split(line.split(">")[0])
    if words[0] == "vcam":
        build_parser().parse_args(words[1:])
    elif words[0] == "make":
        goals = [word for word in words[1:] if "=" not in word]
        done = subprocess.run(["make", "-n", *goals], cwd=REPOSITORY, capture_output=True)
        assert done.returncode == 0, done.stderr
    elif words == ["python", "-m", "vcam.install.trim"]:  # test_wheel.py runs it
        assert (REPOSITORY / "install/trim.py").exists()
    elif words[:2] == ["python", "-m"]:
        help_of = [*words[2:4], "--help"] if words[2] == "train" else [words[2], "--help"]
        done = subprocess.run(
            [sys.executable, "-m", *help_of], cwd=REPOSITORY, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        for word in words[3:]:
            if word.startswith("--"):
                assert word.encode() in done.stdout, word
    else:
        assert words[:2] == ["pip", "install"], line
        extras = re.findall(r"\[(\w+)\]", line)
        assert all(f"\n{extra} = [" in text("pyproject.toml") for extra in extras)


@pytest.mark.parametrize(
    "guide",
    [pytest.param(g, marks=[pytest.mark.slow] * (g != "README.md")) for g in GUIDES],
)
def test_every_command_in_a_guide_does_what_it_should(guide: str, desk: Desk) -> None:
    for line in commands(guide):
        if line.startswith(READ_ONLY):
            read_only(line)
            continue
        done = desk.run(NAMED.get(line, line))
        allowed = CODES.get(" ".join(line.split()[:2]), {0})
        assert done.returncode in allowed, f"{line}\n{done.stdout}{done.stderr}"


def test_commands_are_found_in_blocks_and_in_sentences() -> None:
    found = commands("README.md")

    assert {"make run", "make test", "vcam start", "vcam doctor", "vcam open"} <= set(found)
    assert {"install/linux.sh", "install/linux.sh --uninstall", "pip install ."} <= set(found)
    assert 'vcam background "#203040"' not in found  # that is a comment's word, not a command
    assert len({line for guide in GUIDES for line in commands(guide)}) > 40


@pytest.mark.parametrize("guide", GUIDES)
def test_every_setting_in_a_guide_exists(guide: str) -> None:
    known = {
        (section, key)
        for section, fields in config.load(config.default_path(), environ={}).model_dump().items()
        for key in fields
    }

    for key, section in re.findall(r"`(\w+)(?: = [^`]*)?` in\s+`\[(\w+)\]`", text(guide)):
        assert (section, key) in known, f"[{section}] {key}"


@pytest.mark.parametrize("guide", GUIDES)
def test_every_link_and_function_in_a_guide_is_there(guide: str) -> None:
    here = (REPOSITORY / guide).parent
    for label, target in re.findall(r"\[([^\]]*)\]\(([^)#]+)\)", text(guide)):
        if "://" in target:
            continue
        path = here / target
        assert path.exists(), target
        if named := re.fullmatch(r"`\S+\.py: (?:\w+\.)?(\w+)`", label):
            assert re.search(rf"(def|class) {named[1]}\b", path.read_text()), label


def test_the_headings_of_troubleshooting_are_the_doctors_own_words() -> None:
    said = [
        finding.what
        for facts, _, _ in FAULTS.values()
        for finding in run_checks(replace(HEALTHY, **facts))
    ]
    headings = re.findall(r"^## (.*)", text("docs/troubleshooting.md"), re.M)[:-1]  # but looks

    assert len(headings) >= 12
    for heading in headings:
        assert any(heading in what for what in said), heading


def test_what_the_readme_quotes_is_what_the_doctor_says() -> None:
    said = "\n".join(
        report(run_checks(replace(HEALTHY, **facts))) for facts, _, _ in FAULTS.values()
    ).splitlines()
    (quoted,) = re.findall(r"```text\n(✗.*?)```", text("README.md"), re.S)

    lines = [line for line in quoted.splitlines() if line]
    assert len(lines) >= 5
    assert set(lines) <= set(said)
