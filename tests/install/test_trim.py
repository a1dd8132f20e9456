"""install/trim.py in an environment of its own, with files as the libraries have them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "install"))
import trim as script

GOES = (
    "openvino/libs/libopenvino_tensorflow_frontend.so.2641",
    "openvino_telemetry/main.py",
    "openvino/tools/ovc/convert.py",
    "numpy/linalg/tests/test_linalg.py",
    "pip/_internal/__pycache__/main.pyc",
)
STAYS = (
    "openvino/libs/libopenvino_intel_cpu_plugin.so",
    "openvino/libs/libopenvino_tensorflow_lite_frontend.so.2641",
    "numpy/testing/__init__.py",
    "pip/_internal/main.py",
)
PLUGIN = "openvino/libs/libopenvino_intel_gpu_plugin.so"
OPENVINO = {"openvino": ["openvino-telemetry>=2023.2"]}


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment's folder of packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (packages,) = tmp_path.glob("venv/[Ll]ib/**/site-packages")
    for name in (*GOES, *STAYS, PLUGIN, "setuptools/build_meta.py"):
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_bytes(bytes(400_000))
    return packages


def trim(
    packages: Path, required: dict[str, list[str]], *options: str, words: tuple[str, ...] = ()
) -> tuple[str, set[str]]:
    """Run the script beside packages that require others; what it said, and what is left."""
    for name, requirements in required.items():
        about = packages / f"{name}-1.0.dist-info"
        about.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0"]
        lines += [f"Requires-Dist: {line}" for line in requirements]
        (about / "METADATA").write_text("\n".join(lines))
    venv = next(parent for parent in packages.parents if (parent / "pyvenv.cfg").exists())
    (python,) = (path for name in ("bin/python", "Scripts/python.exe") for path in venv.glob(name))
    done = subprocess.run(
        [python, *options, REPOSITORY / "install/trim.py", *words],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == (1 if options else 0), done.stderr
    left = {str(path.relative_to(packages)) for path in packages.rglob("*") if path.is_file()}
    return done.stdout, {name.replace("\\", "/") for name in left}


def test_what_the_camera_never_loads_goes_and_the_rest_stays(environment: Path) -> None:
    said, left = trim(environment, OPENVINO)

    assert left >= set(STAYS)
    assert not left & {*GOES, "setuptools/build_meta.py"}
    assert said.startswith("3 MB removed")


def test_a_package_for_any_machine_keeps_what_an_intel_gpu_needs(environment: Path) -> None:
    _, left = trim(environment, OPENVINO, words=("--any-machine",))

    assert PLUGIN in left
    assert not left & set(GOES)


@pytest.mark.parametrize(
    ("devices", "kept"),
    [
        ({}, set()),
        ({"drm/card0": "0x10de"}, set()),
        ({"drm/card0": "0x10de", "drm/card1": "0x8086"}, {"drm"}),
        ({"drm/renderD128": "0x8086", "accel/accel0": "0x8086"}, {"drm", "accel"}),
    ],
)
def test_plugins_stay_where_their_device_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: dict[str, str], kept: set[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name, vendor in devices.items():
        (tmp_path / name / "device").mkdir(parents=True)
        (tmp_path / name / "device/vendor").write_text(f"{vendor}\n")

    goes = set(script.without_device(tmp_path))

    for kind, patterns in script.DEVICES.items():
        assert goes.isdisjoint(patterns) if kind in kept else goes >= set(patterns)


def test_setuptools_stays_where_torch_asks_for_it(environment: Path) -> None:
    _, left = trim(environment, OPENVINO | {"torch": ["setuptools>=77.0.3"]})

    assert "setuptools/build_meta.py" in left
    assert not left & set(GOES)


def test_a_requirement_of_an_extra_keeps_nothing(environment: Path) -> None:
    _, left = trim(environment, OPENVINO | {"pillow": ['setuptools; extra == "tests"']})

    assert "setuptools/build_meta.py" not in left


def test_an_environment_to_train_in_is_left_alone(environment: Path) -> None:
    said, left = trim(environment, OPENVINO | {"nncf": ["openvino-telemetry>=2023.2.0"]})

    assert left >= {*GOES, *STAYS}
    assert said.startswith("nncf may load what would go")


def test_an_environment_that_is_the_systems_is_left_alone(environment: Path) -> None:
    shared = "import runpy, sys; sys.base_prefix = sys.prefix; "
    shared += "runpy.run_path(sys.argv[1], {}, '__main__')"

    said, left = trim(environment, {}, "-c", shared)

    assert left >= {*GOES, *STAYS}
    assert said == ""
