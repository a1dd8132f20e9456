"""What is in the wheel and the source archive, and that a wheel works where it was unpacked.

The whole of it, pip and a clean environment, takes minutes: VCAM_TEST_INSTALL=1 pytest -m slow.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from tests.bench import footprint
from vcam import __version__

from .conftest import REPOSITORY

# Everything the program reads at run time that is not Python.
INSIDE = (
    "vcam/config.toml",
    "vcam/assets/portrait.jpg",
    "vcam/assets/backgrounds/pictures.json",
    "vcam/assets/backgrounds/living.jpg",
    "vcam/assets/backgrounds/lights.mp4",
    "vcam/control/page/index.html",
    "segmentation/weights/",
    "segmentation/answers/person.jpg",
    "segmentation/answers/person.png",
    "segmentation/answers/room.jpg",
)
LIMIT_MB = 750  # base install without torch, on disk


def run(*command: object, cwd: Path | None = None, **environ: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env=os.environ | environ,
        cwd=cwd,
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
    return folder / built("build_wheel", folder)


def built(what: str, folder: Path) -> str:
    """Let the build system make something; its file name."""
    hatchling = pytest.importorskip("hatchling.build", reason="pip install hatchling")
    before = Path.cwd()
    os.chdir(REPOSITORY)
    try:
        name: str = getattr(hatchling, what)(str(folder))
    finally:
        os.chdir(before)
    return name


def test_the_wheel_carries_weights_page_and_defaults_and_one_version(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        config = archive.read("vcam/config.toml")

    assert __version__ in wheel.name
    for wanted in INSIDE:
        assert any(name.startswith(wanted) for name in names), wanted
    assert config == (REPOSITORY / "config.toml").read_bytes()
    assert not [name for name in names if name.startswith("tests/") or "__pycache__" in name]


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    folders = (REPOSITORY / name for name in ("vcam", "segmentation", "train", "install"))
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    names = {str(p.relative_to(REPOSITORY)) for p in files if "__pycache__" not in p.parts}
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())

    assert len(names) > 100
    assert {re.sub("^install/", "vcam/install/", name) for name in names} <= inside


def test_the_version_is_written_in_one_place() -> None:
    sources = [REPOSITORY / "pyproject.toml"]
    sources += [
        p for n in ("vcam", "segmentation", "train") for p in (REPOSITORY / n).rglob("*.py")
    ]

    told = [path.name for path in sources if f'"{__version__}"' in path.read_text()]

    assert told == ["__init__.py"]


def test_an_unpacked_wheel_answers_and_replaces_a_background(wheel: Path, tmp_path: Path) -> None:
    unpacked, home = tmp_path / "unpacked", tmp_path / "home"
    home.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)

    def vcam(*words: object, codes: tuple[int, ...] = (0,)) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "vcam", *map(str, words)],
            env=os.environ | {
                "PYTHONPATH": str(unpacked), "HOME": str(home), "XDG_RUNTIME_DIR": str(home),
            },
            cwd=home, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode in codes, done.stdout + done.stderr
        return done.stdout

    assert vcam("--version").strip() == f"vcam {__version__}"
    assert vcam("config", "show") == (REPOSITORY / "config.toml").read_text()
    findings = json.loads(vcam("doctor", "--json", codes=(0, 1, 4)))
    assert str(unpacked) in json.dumps(findings)  # where its installer lies
    portrait = unpacked / "vcam/assets/portrait.jpg"
    vcam("render", portrait, "-o", tmp_path / "out.png", "--background", "blur")
    assert (tmp_path / "out.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_source_archive_can_be_built_again(tmp_path: Path) -> None:
    name = built("build_sdist", tmp_path)
    with tarfile.open(tmp_path / name) as archive:
        archive.extractall(tmp_path, filter="data")
    source = tmp_path / name.removesuffix(".tar.gz")

    assert (source / "install/linux.sh").exists()
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, source)

    assert list(tmp_path.glob("*.whl"))


@pytest.mark.slow
@pytest.mark.skipif(
    os.environ.get("VCAM_TEST_INSTALL") != "1",
    reason="set VCAM_TEST_INSTALL=1: it takes minutes and a gigabyte of disk",
)
def test_an_installed_wheel_works_stays_up_during_an_upgrade_and_is_small_enough(
    wheel: Path, tmp_path: Path
) -> None:
    home, venv = tmp_path / "home", tmp_path / "venv"
    home.mkdir()
    footprint.install(wheel, venv)
    python, vcam = venv / "bin/python", venv / "bin/vcam"
    from_pip = footprint.measure(venv)["all"]

    saved = run(python, "-m", "vcam.install.trim", cwd=tmp_path)

    environ = {"HOME": str(home), "XDG_RUNTIME_DIR": str(home), "PYTHONPATH": ""}
    assert run(vcam, "--version", **environ).strip() == f"vcam {__version__}"
    (portrait,) = venv.glob("lib/*/site-packages/vcam/assets/portrait.jpg")
    run(vcam, "render", portrait, "-o", tmp_path / "out.png", "--background", "blur", **environ)
    assert (tmp_path / "out.png").stat().st_size > 10_000
    assert not list(venv.glob("lib/*/site-packages/torch"))
    size = footprint.measure(venv)["all"]
    print(f"{from_pip:.0f} MB from pip, {size:.0f} MB trimmed")
    assert size <= LIMIT_MB, f"{size:.0f} MB of {from_pip:.0f} from pip; {saved}"

    # The upgrade of a camera that is in a call: the same process goes on and shows new pictures.
    run(vcam, "start", "--source", "demo", "--sink", f"file:{tmp_path / 'call.mp4'}", **environ)
    try:
        before = json.loads(run(vcam, "status", "--json", **environ))
        run(python, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", wheel)
        time.sleep(2)
        after = json.loads(run(vcam, "status", "--json", **environ))
    finally:
        run(vcam, "stop", **environ)
    assert (after["pid"], after["state"]) == (before["pid"], "live")
    assert after["frames"]["composited"] > before["frames"]["composited"] + 20
