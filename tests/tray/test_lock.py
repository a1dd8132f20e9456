"""Locks: one daemon and one tray of a user, on every system, freed however their holder ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vcam import daemon
from vcam.errors import DaemonError, VcamError
from vcam.tray import app

HOLD = """
import sys, time
from vcam import daemon
from vcam.tray import app
with {name}():
    print("held", flush=True)
    time.sleep(60)
"""
LOCKS = [
    ("app.only_one", app.only_one, VcamError, "there already"),
    ("daemon._lock", daemon._lock, DaemonError, "runs already"),
]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.mark.parametrize("platform", ["linux", "win32", "darwin"])
@pytest.mark.parametrize(("name", "lock", "error", "told"), LOCKS)
def test_a_second_one_is_refused_until_the_first_ends(
    name, lock, error, told, platform, monkeypatch
):
    monkeypatch.setattr(sys, "platform", platform)

    with lock(), pytest.raises(error, match=told), lock():
        pass

    with lock():
        pass


@pytest.mark.parametrize(("name", "lock", "error", "told"), LOCKS)
def test_a_killed_holder_leaves_no_lock(name, lock, error, told):
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(name=name)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert held.stdout is not None
        assert held.stdout.readline() == "held\n"
        with pytest.raises(error, match=told), lock():
            pass
    finally:
        held.kill()
        held.communicate()

    with lock():
        pass
