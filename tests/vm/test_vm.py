"""One boot of a real kernel; each test here is one check that ran inside it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.vm import browser, machine
from tests.vm.model import left_half_is_person

pytestmark = [pytest.mark.vm, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = float(os.environ.get("VCAM_VM_TIMEOUT", "1500"))  # seconds, for all of it
# An emulated processor is not the one that Numba compiled for, and compiling there takes minutes.
PORTABLE = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "PYTHONDONTWRITEBYTECODE": "1"}
WARM = "import vcam.pipeline, vcam.compositor, vcam.decode, segmentation.segmenter"


def names() -> list[str]:
    """The checks in tests/vm/guest.py, which cannot be imported everywhere."""
    lines = (ROOT / "tests/vm/guest.py").read_text().split("@check\ndef ")[1:]
    return [line.split("(", 1)[0] for line in lines]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not sys.platform.startswith("linux"):
        pytest.skip("a Linux guest needs a Linux host")
    if os.environ.get("VCAM_VM") != "1":
        pytest.skip("set VCAM_VM=1: it boots a kernel in software and takes many minutes")
    if lacking := machine.missing():
        pytest.skip(f"apt-get install {' '.join(lacking)}")
    out = tmp_path_factory.mktemp("vm")
    try:
        machine.image(made := machine.kernel(), machine.loopback(made))
    except machine.Unbuilt as error:
        pytest.fail(f"the guest's kernel cannot be had: {error}")
    left_half_is_person(out / "half.xml")
    environ = PORTABLE | {"NUMBA_CACHE_DIR": str(machine.cache() / "numba")}
    subprocess.run([sys.executable, "-c", WARM], env=os.environ | environ, cwd=ROOT, check=True)
    command = shlex.join([sys.executable, "-m", "tests.vm.guest", str(out)])
    outcome = machine.run(f"cd {ROOT} && {command}", out, timeout=TIMEOUT, environ=environ)
    results = out / "results.jsonl"
    lines = results.read_text().splitlines() if results.exists() else []
    found = {line["name"]: line for line in map(json.loads, lines)}
    tail = f"status {outcome.status}\n{outcome.output[-3000:]}\n{outcome.console[-1500:]}"
    print(outcome.output)
    return {"": tail, "daemon": _read(out / "daemon.log"), **found}


def _read(path: Path) -> str:
    return path.read_text(errors="replace")[-3000:] if path.exists() else ""


@pytest.mark.parametrize("name", names())
def test_in_a_real_kernel(told: dict[str, Any], name: str) -> None:
    if name.startswith("chromium") and not browser.program():
        pytest.skip("apt-get install chromium")

    assert name in told, f"the guest did not come this far: {told['']}"
    result = told[name]
    assert not result["problem"], f"{result['problem']}\n{told['daemon']}"
