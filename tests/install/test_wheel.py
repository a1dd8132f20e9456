"""What is in the wheel and the source archive, and that an installed wheel works."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from vcam import __version__

from .conftest import REPOSITORY

pytestmark = pytest.mark.slow

# Everything the program reads at run time that is not Python.
INSIDE = (
    "vcam/config.toml",
    "vcam/assets/portrait.jpg",
    "vcam/control/page/index.html",
    "segmentation/weights/",
)
LIMIT_MB = 750  # base install without torch, on disk


def run(*command: object, **environ: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, REPOSITORY)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_carries_weights_page_and_defaults_and_one_version(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        config = archive.read("vcam/config.toml")

    assert __version__ in wheel.name
    for wanted in INSIDE:
        assert any(name.startswith(wanted) for name in names), wanted
    assert config == (REPOSITORY / "config.toml").read_bytes()
    assert not [name for name in names if name.startswith("tests/") or "__pycache__" in name]


def test_the_source_archive_can_be_built_again(tmp_path: Path) -> None:
    hatchling = pytest.importorskip("hatchling.build", reason="pip install hatchling")
    before = Path.cwd()
    os.chdir(REPOSITORY)
    try:
        name = hatchling.build_sdist(str(tmp_path))
    finally:
        os.chdir(before)
    with tarfile.open(tmp_path / name) as archive:
        archive.extractall(tmp_path, filter="data")
    source = tmp_path / name.removesuffix(".tar.gz")

    assert (source / "install/linux.sh").exists()
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, source)

    assert list(tmp_path.glob("*.whl"))


@pytest.mark.skipif(
    not os.environ.get("VCAM_TEST_INSTALL"),
    reason="set VCAM_TEST_INSTALL=1: it takes a minute and a gigabyte of disk",
)
def test_an_installed_wheel_replaces_a_background_and_is_small_enough(
    wheel: Path, tmp_path: Path
) -> None:
    home, venv = tmp_path / "home", tmp_path / "venv"
    home.mkdir()
    run(sys.executable, "-m", "venv", venv)
    python, vcam = venv / "bin/python", venv / "bin/vcam"

    run(python, "-m", "pip", "install", "--quiet", wheel)
    saved = run(python, REPOSITORY / "install/trim.py")

    environ = {"HOME": str(home), "XDG_RUNTIME_DIR": str(home), "PYTHONPATH": ""}
    assert run(vcam, "--version", **environ).strip() == f"vcam {__version__}"
    (portrait,) = venv.glob("lib/*/site-packages/vcam/assets/portrait.jpg")
    run(vcam, "render", portrait, "-o", tmp_path / "out.png", "--background", "blur", **environ)
    assert (tmp_path / "out.png").stat().st_size > 10_000
    assert not list(venv.glob("lib/*/site-packages/torch"))
    files = (file for file in venv.rglob("*") if not file.is_symlink() and file.is_file())
    size = sum(file.stat().st_blocks * 512 for file in files) / 1e6
    assert size <= LIMIT_MB, f"{size:.0f} MB; {saved}"
