"""The program as a person uses it: real processes, a real socket, real files."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from tests.vcam.clips import make_clip
from vcam.client import Client
from vcam.commands import start

PORTRAIT = Path(__file__).resolve().parents[2] / "vcam" / "assets" / "portrait.jpg"


@pytest.fixture
def home(tmp_path):
    """An environment of its own: nothing of the person who runs the tests is touched."""
    for name in ("home", "run"):
        (tmp_path / name).mkdir(mode=0o700)
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("VCAM_", "XDG_"))}
    environ = {
        **keep,
        "HOME": str(tmp_path / "home"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "XDG_CACHE_HOME": str(Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()),
        "VCAM_OUTPUT_ON_DEMAND": "false",  # nobody watches
    }
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "NOTIFY_SOCKET"):
        environ.pop(name, None)
    yield environ
    vcam(environ, "stop")


def vcam(environ, *words, timeout=120.0):
    return subprocess.run(
        [sys.executable, "-m", "vcam", *map(str, words)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def status(environ):
    return json.loads(vcam(environ, "status", "--json").stdout)


def colour_behind(path):
    """The mean RGB of the top left corner of the last frame of a video that is no card.

    However long stopping takes, others see the dark card meanwhile, at the end of a recording too.
    """
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    corners = [frame[:30, :30].reshape(-1, 3).mean(0) for frame in frames]
    return next(corner for corner in reversed(corners) if corner.max() > 100)


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys\nfrom vcam.cli import build_parser\nbuild_parser().format_help()\n"
        "bad = {'torch', 'cv2', 'openvino', 'numba', 'numpy', 'aiohttp'} & set(sys.modules)\n"
        "sys.exit(str(bad) if bad else 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_a_daemon_starts_switches_background_and_leaves_a_playable_file(home, tmp_path):
    out = tmp_path / "out.mp4"

    started = vcam(
        home, "start", "--source", "demo", "--sink", f"file:{out}", "--background", "#ff0000"
    )

    assert started.returncode == 0, started.stderr
    assert "VBG Camera runs" in started.stdout
    live = status(home)
    assert live["state"] == "live"
    assert live["frames"]["composited"] > 0
    assert {"prepare", "infer", "smooth", "refine", "compose", "write"} <= set(live["stages_ms"])

    again = vcam(home, "start")
    assert again.returncode == 1
    assert "runs already" in again.stderr

    time.sleep(0.5)
    assert vcam(home, "background", "#0000ff").returncode == 0
    time.sleep(1)
    stopped = time.monotonic()
    assert vcam(home, "stop").returncode == 0
    assert time.monotonic() - stopped < 5
    assert not start.alive(live["pid"])
    assert not list((tmp_path / "run" / "vcam").glob("control.sock"))
    red, _, blue = colour_behind(out)
    assert blue > 150 > red


def test_pause_freeze_and_resume_show_in_the_status(home):
    vcam(home, "start", "--source", "demo", "--sink", "none")

    seen = []
    for command in ("pause", "freeze", "resume"):
        assert vcam(home, command).returncode == 0
        time.sleep(0.8)
        seen.append(status(home)["state"])

    assert seen[0] == "paused"
    assert seen[1] == "frozen"
    assert seen[2] in ("live", "starting")


def test_the_room_is_learnt_by_word_told_and_forgotten(home, tmp_path):
    coarse = np.random.default_rng(1).integers(40, 200, (18, 32, 3), np.uint8)
    Image.fromarray(coarse).resize((1280, 720)).save(tmp_path / "room.png")
    vcam(home, "start", "--source", str(tmp_path / "room.png"), "--sink", "none")

    learnt = vcam(home, "room", "learn")
    told = vcam(home, "room")
    forgotten = vcam(home, "room", "forget")

    assert learnt.returncode == 0, learnt.stderr
    assert "Step out of the picture.\n3 …\n2 …\n1 …\n" in learnt.stdout
    assert "of the room is known" in told.stdout
    assert "forgotten" in forgotten.stdout


def test_a_picture_becomes_a_preset_a_look_is_kept_and_next_goes_on(home, tmp_path):
    Image.new("RGB", (64, 36), (20, 200, 40)).save(tmp_path / "green.png")
    vcam(home, "start", "--source", "demo", "--sink", "none")

    added = vcam(home, "background", tmp_path / "green.png")

    assert (added.returncode, added.stdout) == (0, "Background: green\n"), added.stderr
    assert status(home)["background"] == "green"
    kept = vcam(home, "background", "blur:30", "--save", "Soft")
    assert kept.returncode == 0, kept.stderr
    listed = vcam(home, "background").stdout.splitlines()
    assert [line.split()[-1] for line in listed if line.startswith("*")] == ["look"]
    assert vcam(home, "background", "previous").stdout == "Background: green\n"
    assert vcam(home, "background", "next").stdout == "Background: Soft\n"
    assert status(home)["background"] == "blur:30"


def test_a_bad_background_is_refused_and_the_old_one_stays_live(home, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    vcam(home, "start", "--source", "demo", "--sink", "none", "--background", "slate")

    refused = vcam(home, "background", tmp_path / "bad.png")

    assert refused.returncode == 1
    assert "not a picture" in refused.stderr
    assert status(home)["background"] == "slate"
    assert status(home)["state"] == "live"


def test_a_background_that_is_gone_at_the_start_is_replaced_and_told_of(home, tmp_path):
    config = Path(home["HOME"]) / ".config" / "vcam" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text('[background]\nuse = "/media/stick/beach.jpg"\n')

    started = vcam(home, "start", "--source", "demo", "--sink", "none")

    assert started.returncode == 0, started.stderr
    seen = status(home)
    assert seen["state"] == "live"
    assert any("/media/stick/beach.jpg" in p and "'studio'" in p for p in seen["problems"])
    assert vcam(home, "background", "slate").returncode == 0
    assert status(home)["problems"] == []


def test_another_output_size_waits_for_a_restart_and_costs_no_frame(home):
    vcam(home, "start", "--source", "demo", "--sink", "none")

    client = Client(Path(home["XDG_RUNTIME_DIR"]) / "vcam" / "control.sock")
    client.change({"output": {"width": 640, "height": 360}})
    for use in ("slate", "#203040", "blur"):
        client.change({"background": {"use": use}})
        time.sleep(0.6)
        assert status(home)["state"] == "live"
    seen = status(home)

    assert seen["restart_needed"]
    assert seen["problems"] == []


def test_a_bad_model_leaves_the_running_one_live(home, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    vcam(home, "start", "--source", "demo", "--sink", "none")
    config = Path(home["HOME"]) / ".config" / "vcam" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)

    config.write_text(f'[matte]\nmodel = "{tmp_path / "bad.onnx"}"\n')
    until = time.monotonic() + 10
    while time.monotonic() < until and not status(home)["engine"]["problem"]:
        time.sleep(0.2)

    seen = status(home)
    assert seen["state"] == "live"
    assert seen["engine"]["problem"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("status",), 1, "not running"),
        (("start", "--background", "/nowhere.png"), 1, "neither a file nor a preset"),
        (("start", "--sink", "teleport"), 3, "teleport"),
        (("start", "--sink", "file:/nowhere/a.mp4"), 4, "its folder does not exist"),
        (("start", "--config", "/nowhere.toml"), 3, "cannot be read"),
        (("render", "/nowhere.mp4", "-o", "x.mp4"), 2, "does not exist"),
        (("render", PORTRAIT), 2, "nowhere to write"),
        (("background", "#12"), 3, "#rrggbb"),
    ],
)
def test_mistakes_end_with_one_sentence_a_hint_and_the_right_code(home, words, code, told):
    done = vcam(home, *words)

    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_model_file_is_told_at_start(home, tmp_path):
    (tmp_path / "bad.xml").write_text("<net/>")
    home["VCAM_MATTE_MODEL"] = str(tmp_path / "bad.xml")

    done = vcam(home, "render", PORTRAIT, "-o", tmp_path / "x.png")

    assert done.returncode == 1
    assert "bad.xml" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("case", ["unset", "read-only"])
def test_it_works_with_no_home(home, tmp_path, case):
    if case == "unset":
        home.pop("HOME")
    else:
        home["HOME"] = "/proc"
        home["XDG_CACHE_HOME"] = "/proc/cache"

    started = vcam(home, "start", "--source", "demo", "--sink", "none")

    assert started.returncode == 0, started.stderr
    assert vcam(home, "stop").returncode == 0


def test_a_camera_that_nobody_watched_yet_says_nothing_it_does_not_know(home):
    on_demand = home | {"VCAM_OUTPUT_ON_DEMAND": "true"}
    assert vcam(on_demand, "start", "--source", "demo", "--sink", "none").returncode == 0

    assert "None" not in vcam(home, "status").stdout
    assert "has not been open" in vcam(home, "room").stdout


def test_a_killed_daemon_leaves_nothing_in_the_way_of_the_next(home):
    vcam(home, "start", "--source", "demo", "--sink", "none")
    os.kill(status(home)["pid"], signal.SIGKILL)

    assert "not running" in vcam(home, "status").stderr
    assert vcam(home, "start", "--source", "demo", "--sink", "none").returncode == 0


def test_a_picture_of_odd_size_keeps_its_size_and_loses_its_room(home, tmp_path):
    portrait = Image.open(PORTRAIT).crop((0, 0, 511, 401))
    portrait.save(tmp_path / "odd.png")

    done = vcam(
        home,
        "render",
        tmp_path / "odd.png",
        "-o",
        tmp_path / "out.png",
        "--alpha",
        tmp_path / "alpha",
        "--background",
        "#00ff00",
    )

    assert done.returncode == 0, done.stderr
    out = np.asarray(Image.open(tmp_path / "out.png"))
    alpha = np.asarray(Image.open(tmp_path / "alpha" / "odd.png"))
    assert out.shape == (401, 511, 3)
    assert alpha.shape == (401, 511)
    assert alpha.dtype == np.uint8
    face, wall = alpha[60:160, 200:250], alpha[20:120, 330:380]
    assert face.mean() > 240
    assert wall.mean() < 15
    assert np.allclose(out[40:60, 340:360].reshape(-1, 3).mean(0), (0, 255, 0), atol=12)


def test_a_folder_is_rendered_and_a_bad_picture_in_it_left_out(home, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b"):
        Image.open(PORTRAIT).resize((200, 200)).save(folder / f"{name}.jpg")
    (folder / "c.jpg").write_bytes(b"broken")

    done = vcam(home, "render", folder, "-o", tmp_path / "out", "--alpha", tmp_path / "alpha")

    assert done.returncode == 1
    assert "c.jpg" in done.stderr
    assert sorted(f.name for f in (tmp_path / "alpha").iterdir()) == ["a.png", "b.png"]
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]


def test_a_clip_keeps_its_frames_rate_and_size(home, tmp_path):
    clip = make_clip(tmp_path / "in.mp4", 12, (200, 120), fps=12)

    done = vcam(home, "render", clip, "-o", tmp_path / "out.mp4", "--alpha", tmp_path / "alpha")

    assert done.returncode == 0, done.stderr
    video = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 12
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(12)
    assert (video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (200, 120)
    names = sorted(f.name for f in (tmp_path / "alpha").iterdir())
    assert names[0] == "000000.png"
    assert len(names) == 12


SIGNALS = """
import os, signal, threading
from types import SimpleNamespace
from vcam import daemon

stop, reread, ended = threading.Event(), threading.Event(), []
daemon.os = SimpleNamespace(**vars(os) | {"_exit": ended.append})
with daemon._stop_on_signal(stop, reread):
    os.kill(os.getpid(), signal.SIGHUP)
    assert reread.wait(5)
    assert not stop.is_set()
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.wait(5)
    assert ended == []
    os.kill(os.getpid(), signal.SIGINT)
assert ended == [130]
print("as it should")
"""


def test_the_first_ctrl_c_asks_the_second_ends_and_hang_up_reads_the_settings_again(home):
    # In a process of its own: a signal needs room for every register, and this one has used all.
    done = subprocess.run(
        [sys.executable, "-c", SIGNALS], env=home, capture_output=True, text=True, timeout=60
    )

    assert done.stdout == "as it should\n", done.stderr


def test_a_daemons_log_is_begun_anew_before_it_grows_large(monkeypatch, tmp_path):
    from vcam.system import paths

    monkeypatch.setattr(paths, "log_path", lambda: tmp_path / "vcam.log")
    monkeypatch.setattr(start, "LOG_SIZE", 2000)
    (handler,) = start.log_file()

    for number in range(200):
        handler.emit(logging.makeLogRecord({"msg": f"line {number} " + "x" * 40}))
    handler.close()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["vcam.log", "vcam.log.1"]
    assert all(path.stat().st_size <= 2100 for path in tmp_path.iterdir())
    assert "line 199" in (tmp_path / "vcam.log").read_text()


def test_a_start_that_takes_long_is_told_as_that(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(start, "START_TIMEOUT", 0.3)
    with subprocess.Popen(["sleep", "60"]) as child:
        code = start.await_first_frame(child, tmp_path / "vcam.log", 0)
        child.kill()

    assert code == 1
    told = capsys.readouterr().err
    assert "still gets ready" in told
    assert "`vcam status`" in told
