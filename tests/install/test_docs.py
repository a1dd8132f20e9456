"""What the guides tell people to type and what they quote is really there."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.vcam.test_doctor import FAULTS, HEALTHY
from vcam import config
from vcam.cli import build_parser
from vcam.doctor import run_checks

from .conftest import REPOSITORY

GUIDES = [REPOSITORY / "docs" / name for name in ("faq.md", "privacy.md", "troubleshooting.md")]


def commands(guide: Path) -> list[str]:
    """Every `vcam …` in a line of a code block or between backticks."""
    text = guide.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.S))
    inline = re.findall(r"`(vcam [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    return [*re.findall(r"^vcam .*", blocks, re.M), *inline]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_every_command_in_a_guide_is_one_that_vcam_takes(guide: Path) -> None:
    found = commands(guide)

    assert found
    for line in found:
        words = shlex.split(line, comments=not re.search(r"'#", line))[1:]
        build_parser().parse_args(words)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_every_setting_in_a_guide_exists(guide: Path) -> None:
    text = guide.read_text(encoding="utf-8")
    known = {
        key: section
        for section, fields in config.load(config.default_path(), environ={}).model_dump().items()
        for key in fields
    }

    for key, section in re.findall(r"`(\w+)(?: = [^`]*)?` in\s+`\[(\w+)\]`", text):
        assert known.get(key) == section, f"[{section}] {key}"


def test_the_headings_of_troubleshooting_are_the_doctors_own_words() -> None:
    said = [
        finding.what
        for facts, _, _ in FAULTS.values()
        for finding in run_checks(replace(HEALTHY, **facts))
    ]
    text = (REPOSITORY / "docs/troubleshooting.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)", text, re.M)[:-1]  # the last one is about looks

    assert len(headings) >= 12
    for heading in headings:
        assert any(heading in what for what in said), heading


@pytest.mark.skipif(sys.platform == "win32", reason="the guides' script is for Linux")
def test_the_installers_options_in_the_guides_are_in_its_usage() -> None:
    usage = (REPOSITORY / "install/linux.sh").read_text(encoding="utf-8").split("TEXT")[1]

    for guide in GUIDES:
        for line in re.findall(r"`install/linux\.sh ([^`]+)`", guide.read_text(encoding="utf-8")):
            assert all(word in usage for word in line.split()), line
