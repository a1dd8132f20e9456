"""One boot of a real kernel; each test here is one check that ran inside it."""

from __future__ import annotations

import functools
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import programs
from tests.vm import browser, machine
from tests.vm.model import left_half_is_person

pytestmark = pytest.mark.vm

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = float(os.environ.get("VCAM_VM_TIMEOUT", "2400"))  # seconds, for all of it
# An emulated processor is not the one that Numba compiled for, and compiling there takes minutes.
PORTABLE = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "PYTHONDONTWRITEBYTECODE": "1"}
WARM = "import vcam.pipeline, vcam.compose.compositor, vcam.sources.decode, segmentation.segmenter"


def names(*decorators: str) -> list[str]:
    """The checks in tests/vm/guest.py, which cannot be imported everywhere."""
    found = re.findall(r"^@(\w+)\ndef (\w+)", (ROOT / "tests/vm/guest.py").read_text(), re.M)
    return [name for decorator, name in found if decorator in decorators]


CHECKS = names("check", "sink_check")
OTHERS = [f"{name}[{version}]" for version in machine.VERSIONS for name in names("sink_check")]
MANY = names("nightly")
WATCHING = [name for name in MANY if name.endswith("before_and_after_a_kill")]  # programs

# What a check's name begins with: the program that it needs.
PROGRAMS = {
    "chromium": "chromium", "firefox": "firefox-esr", "ffmpeg": "ffmpeg",
    "gstreamer": "gst-launch-1.0", "mpv": "mpv", "vlc": "vlc",
}  # fmt: skip

Boot = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def boot(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Boot:
    """Boots once for each kind: "", a version of the module for all of it, or "many".

    Only the checks that pytest was asked for run in the guest.
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("a Linux guest needs a Linux host")
    if lacking := machine.missing():
        pytest.skip(f"apt-get install {' '.join(lacking)}")
    wanted: dict[str, list[str]] = {}
    for item in request.session.items:
        if item.get_closest_marker("vm") and isinstance(item, pytest.Function):
            given = item.callspec.params
            many = item.originalname == "test_many_times_over"
            kind = "many" if many else given.get("version", "")
            wanted.setdefault(kind, []).append(given["name"])

    @functools.cache
    def once(kind: str) -> dict[str, Any]:
        return _told(tmp_path_factory.mktemp("vm"), kind, wanted[kind])

    return once


def _told(out: Path, kind: str, wanted: list[str]) -> dict[str, Any]:
    version = kind if kind in machine.VERSIONS else ""
    try:
        made = machine.kernel()
        machine.image(made, machine.loopback(made, version=version))
    except machine.Unfetched as error:
        return {"": f"the guest's kernel cannot be had here: {error}", "skip": wanted}
    modules, absent = {}, []
    for other in machine.VERSIONS:
        if any(f"[{other}]" in name for name in wanted):
            try:
                modules[other] = str(machine.loopback(made, version=other))
            except machine.Unfetched as error:
                print(error)
                absent += [name for name in wanted if f"[{other}]" in name]
    left_half_is_person(out / "half.xml")
    environ = PORTABLE | {
        "NUMBA_CACHE_DIR": str(machine.cache() / "numba"),
        "VCAM_VM_MODULES": json.dumps(modules),
    }
    subprocess.run([sys.executable, "-c", WARM], env=os.environ | environ, cwd=ROOT, check=True)
    asked = [name for name in wanted if name not in absent]
    command = shlex.join([sys.executable, "-m", "tests.vm.guest", str(out), *asked])
    begun, used = time.monotonic(), _processor()
    outcome = machine.run(
        f"cd {shlex.quote(str(ROOT))} && {command}", out, version=version, environ=environ,
        timeout=TIMEOUT * (6 if kind == "many" else 1), echo=True,
    )  # fmt: skip
    took, used = time.monotonic() - begun, _processor() - used
    print(f"the guest ran for {took:.0f} s and took {used:.0f} s of processor")
    results = out / "results.jsonl"
    lines = results.read_text().splitlines() if results.exists() else []
    found = {line["name"]: line for line in map(json.loads, lines)}
    tail = f"status {outcome.status}\n{outcome.output[-3000:]}\n{outcome.console[-1500:]}"
    return {"": tail, "daemon": _read(out / "daemon.log"), "skip": absent, **found}


def _processor() -> float:
    """Seconds of processor that ended programs took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _read(path: Path) -> str:
    return path.read_text(errors="replace")[-3000:] if path.exists() else ""


def _has_v4l2src() -> bool:
    asked = ["gst-inspect-1.0", "v4l2src"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def _see(told: dict[str, Any], name: str, version: str = machine.DEBIANS) -> None:
    if name in told["skip"]:
        pytest.skip(told[""] if not told.keys() - {"", "skip"} else "this module cannot be fetched")
    program = next((p for start, p in PROGRAMS.items() if name.startswith(start)), "")
    if program and not (shutil.which(program) or browser.program(program)):
        pytest.skip(f"apt-get install {program}")
    if program.startswith("gst") and not _has_v4l2src():
        pytest.skip("apt-get install gstreamer1.0-plugins-good")
    if name.startswith("systemd") and not machine.SYSTEMD.exists():
        pytest.skip("apt-get install systemd")

    assert name in told, f"the guest did not come this far: {told['']}"
    result = told[name]
    assert not result["problem"], f"{result['problem']}\n{told['daemon']}"
    if "compliance" in result["figures"]:
        module = name.partition("[")[2].rstrip("]") or version
        programs.note_compliance(module, *result["figures"]["compliance"])
    if program and "survives" in (seen := result["figures"]):
        facts = {key: seen[key] for key in ("rate", "named", "survives") if key in seen}
        # The guest is emulated: its rate is no figure of the program's.
        facts.pop("rate", None)
        way = f"v4l2loopback {version}"
        programs.note(program, way, listed="yes", right_pixels="yes", **facts)


@pytest.mark.parametrize("name", CHECKS + OTHERS)
def test_in_a_real_kernel(boot: Boot, name: str) -> None:
    _see(boot(""), name)


@pytest.mark.slow
@pytest.mark.parametrize("version", machine.VERSIONS)
@pytest.mark.parametrize("name", CHECKS + WATCHING)
def test_all_of_it_under_another_module(boot: Boot, version: str, name: str) -> None:
    _see(boot(version), name, version)


@pytest.mark.slow
@pytest.mark.parametrize("name", MANY)
def test_many_times_over(boot: Boot, name: str) -> None:
    _see(boot("many"), name)
