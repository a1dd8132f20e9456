"""Each error names what was typed, says what is, and what to do; a wrong source starts nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from tests.vcam.clips import make_clip
from vcam import cli
from vcam.compose import backdrops
from vcam.errors import BackgroundError, SinkError, SourceError
from vcam.sources import capture, check_source, source_opener

OUTPUT = SimpleNamespace(width=320, height=180, fps=30.0)


def camera(source: str) -> SimpleNamespace:
    return SimpleNamespace(
        source=source, fill=False, width=320, height=180, fps=30.0, format="auto", controls={}
    )


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with every kind of wrong file, and two right ones."""
    make_clip(tmp_path / "holiday.mp4", frames=5)
    Image.new("RGB", (64, 36), "red").save(tmp_path / "face.png")
    (tmp_path / "text.txt").write_text("no picture")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "half.png").write_bytes((tmp_path / "face.png").read_bytes()[:60])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder").mkdir()
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        for _ in range(5):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return tmp_path


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("home")
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        (folder / name).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(folder / name))
    return folder


WRONG = {
    "nonsense": "there is no camera 'nonsense'",
    "dem": "did you mean 'demo'",
    "Auto ": "did you mean 'auto'",
    "HD Webcam": "there is no camera 'HD Webcam'; connected: none",
    "/dev/video98": "camera '/dev/video98' is not connected",
    "97": "there is no camera '97'",
    " ": "' ' is empty",
    "DIR/holidy.mp4": "does not exist; did you mean 'holiday.mp4'?",
    "DIR/nowhere/x.mp4": "there is no folder 'DIR/nowhere'",
    "DIR/folder": "is a folder",
    "DIR/text.txt": "text.txt'",
    "DIR/text.png": "text.png'",
    "DIR/empty.mp4": "empty.mp4'",
    "DIR/half.png": "half.png'",
    "DIR/song.mp4": "song.mp4'",
    "rtsp://camera/1": "there is no camera 'rtsp://camera/1'",
}


@pytest.mark.parametrize("wanted", WRONG)
def test_a_wrong_source_is_told_in_words_before_anything_starts(files, wanted, capsys, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    monkeypatch.setattr("vcam.daemon.run", lambda *_, **__: pytest.fail("ran"))
    typed = wanted.replace("DIR", str(files))

    for more in ([], ["--foreground"]):
        code = cli.main(["start", "--source", typed, "--sink", "none", *more])
        said, hint = capsys.readouterr().err.splitlines()

        assert code == 4
        assert WRONG[wanted].replace("DIR", str(files)) in said
        assert hint.strip()
        assert not re.search(r"Errno|Traceback|unplugged|tuple|object at", said + hint)


@pytest.mark.parametrize("right", ["auto", "demo", "DIR/holiday.mp4", "DIR/face.png"])
def test_a_right_source_passes(files, right):
    check_source(camera(right.replace("DIR", str(files))), OUTPUT)


def test_a_name_without_a_suffix_may_be_a_camera_and_one_with_it_is_a_file(files, monkeypatch):
    seen = []
    monkeypatch.setattr("vcam.sources.find_camera", seen.append)

    for name in ("HD Webcam v2.0", "USB 2.0/3.0 Cam", "/dev/video0", "Cam"):
        check_source(camera(name), OUTPUT)

    assert seen == ["HD Webcam v2.0", "USB 2.0/3.0 Cam", "/dev/video0", "Cam"]
    with pytest.raises(SourceError, match="does not exist"):
        check_source(camera("gone.mkv"), OUTPUT)


def test_a_daemon_that_was_refused_its_source_leaves_nothing_behind(home):
    done = subprocess.run(
        [sys.executable, "-m", "vcam", "start", "--source", "nonsense"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])},
    )

    assert (done.returncode, done.stdout) == (4, "")
    assert "there is no camera 'nonsense'" in done.stderr
    assert not list(home.rglob("*.sock"))
    assert not list(home.rglob("*.log"))


CARDS = {
    "nonsense": "camera unplugged",
    "DIR/text.txt": "picture cannot be read",
    "DIR/half.png": "picture cannot be read",
    "DIR/song.mp4": "picture cannot be read",
    "DIR/folder": "no camera",
}


@pytest.mark.parametrize("wanted", CARDS)
def test_a_source_from_the_settings_that_fails_later_says_what_it_is(files, wanted):
    source = wanted.replace("DIR", str(files))
    with capture.Capture(source_opener(camera(source), OUTPUT)) as reader:
        reader.want(True)
        fault = reader.read(10)
        told = reader.problem

    assert (fault.reason, source in told) == (CARDS[wanted], True)


@pytest.mark.parametrize("name", ["half.png", "text.png", "empty.mp4", "song.mp4"])
def test_a_background_that_cannot_be_kept_is_named_as_the_user_knows_it(files, name):
    with pytest.raises(BackgroundError) as told:
        backdrops.add_file(files / name, name)

    said = f"{told.value} {told.value.hint}"
    assert repr(name) in said
    assert not re.search(r"/\.|\.\d{6,}|tuple|Errno", said)


TYPED = {
    ("start", "--background", "WORD"): 1,
    ("start", "--background", "DIR/WORD.png"): 1,
    ("start", "--sink", "WORD"): 3,
    ("start", "--source", ""): 3,
    ("start", "--foreground", "--sink", "/dev/WORD"): 4,
    ("start", "--config", "DIR/WORD.toml"): 3,
    ("start", "--WORD",): 2,
    ("background", "#WORD"): 3,
    ("devices", "--set", "WORD=1"): 4,
    ("devices", "--camera", "WORD", "--set", "a=1"): 4,
    ("render", "DIR/WORD", "-o", "DIR/x.mp4"): None,
    ("render", "DIR/text.txt", "-o", "DIR/WORD.mp4"): None,
    ("config", "check", "--config", "DIR/WORD.toml"): 3,
    ("WORD",): 2,
}  # fmt: skip


@pytest.mark.parametrize("words", TYPED)
def test_every_command_names_what_was_typed(files, words, capsys):
    typed = [word.replace("WORD", "wxyz").replace("DIR", str(files)) for word in words]
    try:
        code = cli.main(typed)
    except SystemExit as error:
        code = error.code

    said = capsys.readouterr().err
    assert code == TYPED[words] or (TYPED[words] is None and code)
    assert (
        "wxyz" in said
        or "text.txt" in said
        or "no camera is connected" in said
        or "is '', expected something" in said
    )
    assert not re.search(r"Errno|Traceback|tuple index|object at|Free some", said)


def test_short_words_for_the_card_do_not_call_everything_unplugged():
    assert (
        capture._short(SourceError("gone", card="camera sends raw data")) == "camera sends raw data"
    )
    assert capture._short(BackgroundError("half")) == "picture cannot be read"
    assert capture._short(SourceError("gone")) == "camera unplugged"
    assert SinkError("x").card == ""
