"""A fresh clone on a machine with python3, python3-venv and make, and nothing else of ours."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from . import debian
from .conftest import REPOSITORY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("VCAM_TEST_INSTALL") != "1",
        reason="set VCAM_TEST_INSTALL=1: it fetches Debian and takes two gigabytes of disk",
    ),
]

# A browser, as small as it gets: opens the address that `make run` prints and looks at the preview.
VISIT = """
import json, signal, subprocess, sys, time, urllib.request

begun = time.monotonic()
make = subprocess.Popen(["make", "run"], stdout=subprocess.PIPE, text=True)
for line in make.stdout:
    print(line, end="")
    if line.startswith("Settings page: "):
        break
print("STEP seconds", round(time.monotonic() - begun, 1))
address = line.split()[-1]
page, _, word = address.partition("#")
print("STEP page", "VBG Camera" in urllib.request.urlopen(page, timeout=30).read().decode())

def ask(path, body=None, **headers):
    headers["Origin"] = page.rstrip("/")
    return urllib.request.urlopen(urllib.request.Request(page + path, body, headers), timeout=30)

key = json.load(ask("session", json.dumps({"token": word}).encode()))["session"]
frames, rest = set(), b""
until = time.monotonic() + 60
with ask("preview.mjpg", **{"X-Vcam-Session": key}) as preview:
    while len(frames) < 5 and time.monotonic() < until:
        rest += preview.read1(65536)
        while (end := rest.find(b"\\xff\\xd9")) >= 0:
            frames.add(rest[max(rest.find(b"\\xff\\xd8"), 0) : end])
            rest = rest[end + 2 :]
print("STEP pictures", len(frames))
status = subprocess.run([".venv/bin/vcam", "status"], capture_output=True, text=True)
print(status.stdout)
make.send_signal(signal.SIGINT)
subprocess.run([".venv/bin/vcam", "stop"], capture_output=True)
print("STEP ended", make.wait(30) is not None)
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> debian.Debian:
    if why := debian.missing():
        pytest.skip(why)
    made = debian.Debian(tmp_path_factory.mktemp("debian") / "root")
    subprocess.run(
        ["git", "clone", "--quiet", "--depth=1", f"file://{REPOSITORY}", made.root / "root/clone"],
        check=True,
    )
    return made


def test_make_run_shows_the_demo_in_motion_and_the_page_answers(
    clone: debian.Debian, tmp_path: Path
) -> None:
    wheels = debian.wheels(tmp_path / "wheels", "hatchling", "editables")
    (clone.root / "root/visit.py").write_text(VISIT)

    done = clone.run("cd /root/clone && python3 /root/visit.py", wheels=wheels)

    print(done.stdout)
    assert "STEP page True" in done.stdout, done.stdout + done.stderr
    assert "STEP pictures 5" in done.stdout, done.stdout + done.stderr
    assert "state       live" in done.stdout


def test_make_sets_up_what_the_tests_need(clone: debian.Debian, tmp_path: Path) -> None:
    wheels = debian.wheels(tmp_path / "wheels", "hatchling", "editables", f"{REPOSITORY}[dev]")

    done = clone.run(
        "cd /root/clone && make .venv/.test && "
        ".venv/bin/python -m pytest -q tests/test_architecture.py tests/vcam/test_config.py "
        "tests/install",
        wheels=wheels,
    )

    print(done.stdout[-4000:])
    assert " passed" in done.stdout
