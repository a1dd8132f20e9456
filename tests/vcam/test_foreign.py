"""Text that others wrote, at every border it crosses on its way to a person or another program."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.hostile import ESCAPE, NAMES, harmful
from tests.vcam.clips import make_clip
from tests.vcam.driver import Driver, plugged_in
from vcam import cli, foreign_text
from vcam.compose import backdrops
from vcam.control.metrics import prometheus
from vcam.doctor import facts, report
from vcam.errors import ConfigError, VcamError
from vcam.foreign_text import block, escaped, plain, say
from vcam.sinks import pipewire
from vcam.system import cameras, devices
from vcam.system.systemd import Notifier
from vcam.tray.view import news, view

ROOT = Path(__file__).resolve().parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc and V4L2 are Linux's")


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_only_shows(name):
    shown = plain(NAMES[name])

    assert harmful(shown, lines=False) == []
    assert 0 < len(shown) <= foreign_text.NAME
    assert shown.encode()  # UTF-8 takes it
    assert plain(shown) == shown


@settings(max_examples=500, deadline=None)
@given(st.text(st.characters(), max_size=60), st.integers(4, 40))
def test_any_text_only_shows_and_stays_within_its_limit(text, limit):
    shown = plain(text, limit)

    assert harmful(shown, lines=False) == []
    assert len(shown) <= limit
    assert harmful(block(text)) == []


@pytest.mark.parametrize(
    "name",
    ["HD Pro Webcam C920", "Kamera für Zoë", "网络摄像头", "כיפה", "a_b <c> & d", "❤️ 🎥", ""],
)
def test_an_honest_name_stays_as_it_is(name):
    assert plain(name) == name


def test_what_was_there_can_be_told_from_what_is_shown():
    shown = plain("\x1b[1mA\u202eB\udcff\U000e0041\n\x85")

    assert shown == r"\x1b[1mA\u202eB\xff\U000e0041\n\x85"
    assert plain("ab\u00a0cd\u202fef") == "ab cd ef"
    assert plain("a" * 60 + ".mp4", 20) == "aaaaaaaaaaaaa…aa.mp4"


def test_markup_is_escaped_and_lines_stay_lines():
    assert escaped(NAMES["markup"]).count("<") == 0
    assert block("one\ntwo\x1b\r") == "one\ntwo\\x1b\\r"
    assert len(block("x\n" * 10**6).split("\n")) == foreign_text.LINES


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_printing_never_fails_and_never_steers(encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict")

    for name in NAMES.values():
        say("Camera:", name, "…", file=stream)

    assert harmful(raw.getvalue().decode(encoding)) == []
    assert raw.getvalue().count(b"Camera:") == len(NAMES)


def test_a_log_line_cannot_be_forged_and_a_traceback_is_harmless():
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    handler.setFormatter(foreign_text.Formatter("%(levelname)s %(name)s: %(message)s"))
    log = logging.Logger("vcam.test")
    log.addHandler(handler)

    for name in NAMES.values():
        log.warning("camera: %s", name)
    forged = f"{ESCAPE}\nERROR vcam: forged"
    try:
        raise ValueError(forged)
    except ValueError:
        log.exception("failed")

    lines = told.getvalue().splitlines()
    assert harmful(told.getvalue()) == []
    assert [line[:21] for line in lines[: len(NAMES)]] == ["WARNING vcam.test: ca"] * len(NAMES)
    assert "Traceback" in told.getvalue()
    assert max(map(len, lines)) < 2200


def test_the_last_words_of_a_thread_go_to_the_log(caplog, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    foreign_text.catch_last_words()

    def fail() -> None:
        raise ValueError(ESCAPE)

    thread = threading.Thread(target=fail, name="capture")
    thread.start()
    thread.join()

    assert "capture ended" in caplog.text
    assert caplog.records[-1].exc_info is not None


def test_errors_say_what_others_wrote_harmlessly():
    error = VcamError(f"{ESCAPE} is in use", hint=f"Close {ESCAPE}.")
    config = ConfigError("two", problems=(ESCAPE, "b"))

    assert harmful(f"{error}{error.message}{error.hint}{config.problems}") == []
    assert len(VcamError(NAMES["long"]).message) <= foreign_text.LINE


def test_everything_that_is_printed_goes_through_one_function():
    """`print` and writes to the terminal stand where escape sequences of our own are made."""
    found = {}
    for file in sorted((ROOT / "vcam").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called == "print" or called in ("sys.stdout.write", "sys.stderr.write"):
                    found.setdefault(file.name, []).append(called)
                assert called not in ("logging.basicConfig", "argparse.ArgumentParser") or (
                    file.name == "foreign_text.py"
                ), file

    # The line of progress, which wipes itself, generated pages, and pictures in a terminal.
    assert found == {
        "render.py": ["sys.stderr.write"],
        "manual.py": ["sys.stdout.write"],
        "terminal.py": ["sys.stdout.write"],
    }


NAMELESS = """
import ctypes, sys
ctypes.CDLL(None).prctl(15, bytes.fromhex(sys.argv[2]), 0, 0, 0)
file = open(sys.argv[1])
print(1, flush=True)
sys.stdin.read()
"""
COMMS = [b"\x1b[31mE\x07\n\xff", "\u202e\u200bx\x9b".encode(), b"<b>&_\r\n\x85\x90", b"a\x7fb\tc"]


@linux
@pytest.mark.parametrize("comm", COMMS)
def test_a_program_that_names_itself_so_is_listed_harmlessly(tmp_path, comm):
    node = tmp_path / "node"
    node.touch()
    process = subprocess.Popen(
        [sys.executable, "-c", NAMELESS, str(node), comm.hex()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        assert Path(f"/proc/{process.pid}/comm").read_bytes() == comm[:15] + b"\n"
        (holder,) = devices.holders(node)
    finally:
        process.communicate(timeout=20)

    assert holder.pid == process.pid
    assert harmful(holder.name, lines=False) == []
    assert holder.name


@pytest.fixture
def camera(tmp_path, monkeypatch):
    """A gadget whose maker wrote its card, its label and its knobs."""
    driver = Driver(tmp_path / "video7", {("YUYV", 320, 240): [30.0]})
    driver.card = "\x1b[31mC\n\u202eam\x9b"
    driver.knobs[0x980900][0] = "Bright\x1b[2Jness"
    driver.choices = {1: "Man\x1bual", 3: "Auto\u202e"}
    monkeypatch.setattr(devices, "nodes", lambda: [driver.path])
    label = tmp_path / "class/video7"
    label.mkdir(parents=True)
    (label / "name").write_text("L\x1b[5mabel\n\u200b\n")
    monkeypatch.setattr(devices, "SYS", tmp_path / "class")
    with plugged_in(driver, monkeypatch):
        yield driver


@linux
def test_a_gadget_that_calls_itself_so_is_listed_and_chosen_harmlessly(camera, capsys, monkeypatch):
    (found,) = devices.list_cameras()
    knobs = devices.list_controls(camera.path)

    assert cli.main(["devices"]) == 0
    assert cli.main(["devices", "--json"]) == 0
    told = capsys.readouterr().out

    assert harmful(told) == []
    assert r"\x1b[31mC\n\u202eam" in told
    assert harmful(f"{found.name}{[k.choices for k in knobs]}", lines=False) == []
    assert cameras.find_camera(found.name) == found
    assert cameras.find_camera(camera.card) == found
    monkeypatch.setattr(devices, "capabilities_of", lambda path: (None, "busy"))
    assert harmful(devices.list_cameras()[0].name, lines=False) == []


@linux
def test_what_the_machine_calls_its_cameras_and_programs_is_examined_harmlessly(
    tmp_path, capsys, monkeypatch
):
    entry = tmp_path / "sys/class/video4linux/video0"
    entry.mkdir(parents=True)
    (entry / "name").write_text(f"{ESCAPE}\nnext\u202e\n")
    holder = tmp_path / "proc/4242"
    (holder / "fd").mkdir(parents=True)
    (holder / "fd/3").symlink_to("/dev/video0")
    (holder / "comm").write_bytes(b"\x1b[31mE\x07\n\xff")
    environ = {"USER": ESCAPE, "XDG_CURRENT_DESKTOP": ESCAPE, "PATH": "", "HOME": str(tmp_path)}
    seen = facts.look(tmp_path, environ, lambda command: f"{ESCAPE} zoom\u202e\n")
    monkeypatch.setattr(facts, "look", lambda: seen)

    cli.main(["doctor"])
    cli.main(["doctor", "--json"])
    told = capsys.readouterr().out

    assert harmful(told) == []
    assert "(pid 4242)" in told
    assert harmful(report.report(report.run_checks(seen))) == []


@linux
def test_systemd_is_told_one_line_whatever_a_name_holds(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        told = []
        for name in NAMES.values():
            notifier.status(f"live {name}\nWATCHDOG=trigger\nMAINPID=1")
            told.append(manager.recv(1 << 20).decode())
        notifier.ready("\ud800\n\x1b")
        told.append(manager.recv(1 << 20).decode().removeprefix("READY=1\n"))

    for text in told:
        assert text.startswith("STATUS=")
        assert harmful(text, lines=False) == []
        assert len(text) < 300


def test_figures_for_prometheus_keep_their_lines():
    status = {"state": "live", "version": f'{ESCAPE}"\n\\\ud800', "stages_ms": {ESCAPE: 1.0}}

    text = prometheus(status)

    assert harmful(text) == []
    assert text.encode()
    for line in text.splitlines():
        assert line.startswith(("#", "vcam_"))


@pytest.mark.parametrize("name", NAMES)
def test_the_tray_knows_names_that_only_show(name):
    foreign_name = NAMES[name]
    status = {
        "state": "fault",
        "reason": foreign_name,
        "source": {"name": foreign_name},
        "watchers": [foreign_name, "Zoom"],
    }
    looks = [{"name": foreign_name}]

    now = view(status, {}, looks, [(foreign_name, foreign_name)])

    titles = [title for _, title in (*now.presets, *now.cameras)]
    told = news(view({"state": "live"}, {}), now) or ("", "")
    alone = view({"state": "live", "watchers": [foreign_name] * 40}, {})
    called = news(view({"state": "live"}, {}), alone)
    assert called is not None
    for text in (now.headline, now.audience, now.camera, *titles, *told, alone.audience, *called):
        assert harmful(text, lines=False) == []
        assert len(text) < 250
    assert now.presets[0][0] == foreign_name  # what is set stays what it was


def test_files_and_looks_that_are_called_so_have_names_that_only_show(tmp_path, monkeypatch):
    from vcam.compose import library
    from vcam.system import paths

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    folder = paths.backgrounds_dir()
    folder.mkdir(parents=True)
    raw = [b"\x1b[31mred\x07", "a\u202eb\u200b".encode(), b"byte\xff", b"new\nline"]
    for stem in raw:
        picture = os.path.join(os.fsencode(folder), stem + b".png")
        with open(picture, "wb") as file:
            Image.new("RGB", (64, 36), "red").save(file, "PNG")

    mine = [entry for entry in library.entries() if entry.mine]

    assert len(mine) == len(raw)
    for entry in mine:
        assert harmful(entry.name, lines=False) == []
        backdrops.open_backdrop(entry.name, 64, 36).close()
    for stem in raw:  # as settings of before may have it
        backdrops.open_backdrop(os.fsdecode(stem), 64, 36).close()


@linux
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["application.name", "application.process.binary", "node.name"])
def test_a_pipewire_client_that_calls_itself_so_is_named_harmlessly(
    tmp_path, monkeypatch, name, key
):
    """By a `pw-dump` that tells of one reader of node 40."""
    client, node = ({key: NAMES[name]} if part == key[:4] else {} for part in ("appl", "node"))
    told = [
        {"id": 31, "info": {"props": client}},
        {"id": 50, "info": {"props": {"client.id": 31} | node}},
        {"id": 60, "info": {"output-node-id": 40, "input-node-id": 50}},
    ]
    (tmp_path / "told").write_text(json.dumps(told))
    program = tmp_path / "pw-dump"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/told\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    (seen,) = pipewire._linked(40)

    assert seen == plain(NAMES[name])
    assert harmful(seen, lines=False) == []


@pytest.fixture
def home(tmp_path):
    for name in ("home", "run"):
        (tmp_path / name).mkdir(mode=0o700)
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("VCAM_", "XDG_"))}
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "NOTIFY_SOCKET"):
        keep.pop(name, None)
    cache = str(Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser())
    run, own = str(tmp_path / "run"), str(tmp_path / "home")
    environ = {**keep, "HOME": own, "XDG_RUNTIME_DIR": run, "XDG_CACHE_HOME": cache}
    environ["VCAM_OUTPUT_ON_DEMAND"] = "false"  # nobody watches
    yield environ
    vcam(environ, "stop")


def vcam(environ, *words):
    done = subprocess.run(
        [sys.executable, "-m", "vcam", *words],
        env=environ,
        capture_output=True,
        timeout=180,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "surrogateescape")


@linux
def test_every_command_and_the_log_say_hostile_names_harmlessly(home, tmp_path):
    """A clip, presets and words on the command line; a daemon that runs, and one that cannot."""
    clip = make_clip(tmp_path / "clip.mp4", frames=30)
    source = tmp_path / "cl\x1b[31mip\u202e\n\u200b.mp4"
    clip.rename(source)
    presets = Path(home["HOME"]) / ".local/share/vcam/backgrounds"
    presets.mkdir(parents=True)
    Image.new("RGB", (64, 36), "red").save(presets / "p\x1b]0;x\x07\u202e.png")
    said = {}

    def tell(*words):
        said[words] = vcam(home, *words)
        return said[words]

    code, told = tell("start", "--source", str(source), "--sink", "none")
    assert code == 0, told
    for words in (
        ("status",), ("status", "--json"), ("background",), ("background", f"{ESCAPE}.png"),
        ("background", str(presets / "p\x1b]0;x\x07\u202e.png")), ("devices",), ("doctor",),
        ("background", "--save", ESCAPE), (ESCAPE,), ("start", ESCAPE),
        ("stop",), ("status",), ("start", "--background", ESCAPE), ("start", "--source", ESCAPE),
        ("start", "--sink", ESCAPE), ("start", "--sink", f"file:/{ESCAPE}/x.mp4"),
        ("start", "--config", f"/{ESCAPE}"), ("config", "check", "--config", f"/{ESCAPE}"),
        ("render", f"/{ESCAPE}", "-o", "x"), ("config", "show"),
    ):  # fmt: skip
        tell(*words)

    for words, (_, text) in said.items():
        assert harmful(text) == [], words
        assert text, words
    log = next(Path(home["HOME"]).rglob("vcam.log")).read_bytes().decode("utf-8", "surrogateescape")
    assert harmful(log) == []
    assert r"cl\x1b[31mip\u202e\n\u200b.mp4" in log
    assert json.loads(said["status", "--json"][1])["source"]["name"].startswith(
        r"clip cl\x1b[31mip"
    )
