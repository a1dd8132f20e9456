"""The quick start of train/README.md, typed line by line on a few pictures."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.people import write_folder
from vcam.settings import config

ROOT = Path(__file__).parents[2]
README = (ROOT / "train" / "README.md").read_text(encoding="utf-8")
# The recipe as shipped but for its length; a file of a recipe's name goes before the shipped one.
SHORT = {"epochs": 1, "views": 32, "batch": 4, "side": 64, "low_side": 32, "validate": 1}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", README, re.S)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "segmentation").symlink_to(ROOT / "segmentation")
    recipe = (ROOT / "train" / "recipes" / "own.toml").read_text(encoding="utf-8")
    for key, value in SHORT.items():
        recipe, count = re.subn(rf"(?m)^{key} = \d+", f"{key} = {value}", recipe)
        assert count <= 1, key
    (folder / "own").write_text(recipe)
    (folder / "my.toml").write_text(blocks("toml")[0])
    write_folder(tmp_path / "AISegment", 40)
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return folder


def test_the_quick_start_works_when_typed(clone: Path) -> None:
    environ = {
        **os.environ,
        "HOME": str(clone.parent),
        "PATH": f"{clone.parent / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    lines = [line.split(" #")[0].strip() for line in blocks("sh")[0].splitlines()]
    assert lines[0] == "pip install -e '.[train]'"
    assert lines[-1] == "vcam start --config my.toml"

    for line in lines[1:-1]:
        done = subprocess.run(
            ["bash", "-c", line], cwd=clone, env=environ, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"

    told = config.load(clone / "my.toml", environ={})
    assert (clone / told.matte.model).is_file()
    assert "| all | net |" in done.stdout
    assert "| all | bisenet-small |" in done.stdout


def test_every_link_of_the_page_leads_somewhere() -> None:
    for label, target in re.findall(r"\[([^\]]*)\]\(([^)#]+)\)", README):
        if "://" not in target:
            path = ROOT / "train" / target
            assert path.exists(), target
            for name in re.findall(r"`\w+\.py: (\w+)`", label):
                assert re.search(rf"(def|class) {name}\b", path.read_text()), label
