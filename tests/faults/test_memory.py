"""Nothing of the room is left in a real daemon's memory once it is not wanted, nor in a dump."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.bench import first_click, start
from tests.faults.memory import ROOT, Watched, running
from vcam.errors import VcamError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into Linux's /proc")
WITHIN = 3.0  # seconds until which it has to be gone


@contextlib.contextmanager
def preview(daemon: Watched):
    """Somebody who looks at the preview all the while."""

    def look() -> None:
        with (
            contextlib.suppress(VcamError, OSError),
            daemon.client._answer("GET", "/preview.mjpg", None) as answer,
        ):
            while (part := answer.read1(4096)) and not done.is_set():
                seen.append(len(part))

    seen: list[int] = []
    done = threading.Event()
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(5)
    assert sum(seen) > 100_000


@pytest.mark.parametrize(
    ("kind", "background", "previewed"),
    [
        ("mjpg", "blur:60", False),
        pytest.param("yuyv", "none", True, marks=pytest.mark.slow),
    ],
)
def test_no_piece_of_the_room_is_left_when_it_is_not_wanted(tmp_path, kind, background, previewed):
    found = rounds(tmp_path, kind, background, previewed)

    assert sum(found["live"].values()) > 20_000
    assert sum(found["live again"].values()) > 20_000
    assert [found[when] for when in ("paused", "idle", "switched", "stopped")] == [{}] * 4


def test_of_a_picture_that_stands_for_a_camera_its_decoder_leaves_next_to_nothing(tmp_path):
    """A picture of the user's own; some hundred bytes are left by its decoder."""
    found = rounds(tmp_path, "still", "dusk", False)

    live = sum(found["live"].values())
    assert live > 20_000
    for when in ("paused", "idle", "switched", "stopped"):
        assert sum(found[when].values()) < live / 1000, found[when]


REST = """
import sys, vcam.matting
vcam.matting.RELEASE = 3.0
from vcam.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_daemon_at_rest_holds_much_less_memory_and_comes_back(tmp_path):
    with first_click.home() as environ:
        environ |= {"PYTHONPATH": str(ROOT), "VCAM_DAEMON": "1"}
        sink = f"file:{tmp_path}/out.mp4"  # somebody watches
        words = ["start", "--foreground", "--source", "demo", "--sink", sink]
        child = subprocess.Popen([sys.executable, "-c", REST, *words], env=environ)
        try:
            start.until_live(environ, child)
            time.sleep(1)
            live = start.resident(child.pid)["rss"]
            start.ask(environ, "POST", "/pause")
            time.sleep(8)
            rests = []
            for _ in range(6):  # a card five times a second, and whoever tends twice
                rests.append(start.resident(child.pid)["rss"])
                time.sleep(1)
            start.ask(environ, "POST", "/resume")
            start.until_live(environ, child)
        finally:
            child.terminate()
            child.wait()

    assert child.returncode == 0
    assert max(rests) < 0.6 * live


@pytest.mark.slow
def test_of_a_clip_a_decoder_leaves_next_to_nothing(tmp_path):
    """Its decoder's memory is FFmpeg's: what was freed while the model was loaded may be in use."""
    found = rounds(tmp_path, "clip", "blur:60", False)

    live = sum(found["live"].values())
    assert live > 20_000
    for when in ("paused", "idle", "switched", "stopped"):
        assert sum(found[when].values()) < live / 50, found[when]


def rounds(folder: Path, kind: str, background: str, previewed: bool) -> dict[str, dict[str, int]]:
    """What of the room a daemon holds while it is live, and each time it is no longer wanted."""
    found: dict[str, dict[str, int]] = {}
    with running(folder, kind, use=background) as daemon:
        with preview(daemon) if previewed else contextlib.nullcontext():
            time.sleep(1)
            found["live"] = daemon.found()
            daemon.client.pause()
            time.sleep(WITHIN)
            found["paused"] = daemon.found()
            daemon.client.resume()
            daemon.wait("live")
        daemon.watch(False)
        daemon.wait("idle")
        time.sleep(WITHIN)
        found["idle"] = daemon.found()
        daemon.watch(True)
        daemon.wait("live")
        daemon.client.change({"camera": {"source": "demo"}})
        time.sleep(WITHIN)
        found["switched"] = daemon.found()
        daemon.client.change({"camera": {"source": daemon.source}})
        time.sleep(0.5)
        daemon.wait("live")
        time.sleep(0.5)
        found["live again"] = daemon.found()
        daemon.stop()
        found["stopped"] = daemon.search(daemon.pid)

    print(kind, {when: sum(each.values()) for when, each in found.items()})
    return found


def dies(*, hidden: bool, folder: Path) -> tuple[bool, list[str]]:
    """Whether a process that may dump as much as it likes is dumped when it aborts; the files."""
    code = "import os; from vcam.system.memory import never_dumped; "
    code += ("never_dumped(); " if hidden else "") + "os.abort()"
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2
        ),
    )  # fmt: skip
    _, status = os.waitpid(child.pid, 0)
    child.returncode = -os.WTERMSIG(status)
    assert os.WTERMSIG(status) == signal.SIGABRT
    return os.WCOREDUMP(status), os.listdir(folder)


def test_a_daemon_that_aborts_leaves_no_core(tmp_path):
    for name in ("shown", "hidden"):
        (tmp_path / name).mkdir()

    dumped, _ = dies(hidden=False, folder=tmp_path / "shown")
    hidden = dies(hidden=True, folder=tmp_path / "hidden")

    assert hidden == (False, [])
    if resource.getrlimit(resource.RLIMIT_CORE)[1]:  # else nothing here is ever dumped
        assert dumped


def test_the_daemon_itself_hides_from_dumps_and_from_other_programs(tmp_path):
    if os.geteuid():
        pytest.skip("needs root, as which it runs hidden here")
    with running(tmp_path, "still", use="dusk") as daemon:
        limits = Path(f"/proc/{daemon.pid}/limits").read_text()
        (core,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
        os.kill(daemon.pid, signal.SIGABRT)
        _, status = os.waitpid(daemon.pid, 0)
        daemon.child.returncode = -os.WTERMSIG(status)

    assert core.split()[4:6] == ["0", "0"]
    assert os.WTERMSIG(status) == signal.SIGABRT
    assert not os.WCOREDUMP(status)


def test_another_program_of_the_same_user_cannot_read_what_hides(tmp_path):
    if os.geteuid():
        pytest.skip("needs root, to become an ordinary user")
    code = "import sys, time; from vcam.system.memory import never_dumped; "
    answers = []
    for hide in ("", "never_dumped(); "):
        with subprocess.Popen(
            ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c",
             f"{code}{hide}print('up', flush=True); time.sleep(60)"],
            stdout=subprocess.PIPE, cwd=ROOT,
        ) as child:  # fmt: skip
            assert child.stdout is not None
            assert child.stdout.readline() == b"up\n"
            done = subprocess.run(
                ["setpriv", "--reuid=65534", "--clear-groups", "dd", "count=0",
                 f"if=/proc/{child.pid}/mem"],
                check=False, capture_output=True,
            )  # fmt: skip
            answers.append(done.returncode != 0)
            child.kill()

    assert answers == [False, True]
