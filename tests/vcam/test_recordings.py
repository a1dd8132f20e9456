"""Recordings: never written over, private, and playable however they end."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from tests.vcam.clips import playable
from vcam.compose.card import Card
from vcam.errors import SinkEnded, SinkError
from vcam.files.encode import CONTAINERS
from vcam.frame import SafeFrame
from vcam.sinks import open_sinks
from vcam.sinks.file import FileSink
from vcam.sinks.outlet import BACK_OFF
from vcam.stats import Stats

W, H = 64, 48
NOISE = np.random.default_rng(0).integers(0, 255, (40, H * 3 // 2, W), np.uint8)


def frame(seq: int) -> SafeFrame:
    return SafeFrame(NOISE[seq % 40], seq / 30, seq, is_card=True, maker="vcam.compose.card")


def record(sink: FileSink, count: int, *, begin: int = 0) -> None:
    """Write `count` frames, no faster than they are taken."""
    for seq in range(begin, begin + count):
        while sink._pictures.full() and sink._ended is None:
            time.sleep(0.002)
        sink.write(frame(seq))


def wait_until(true, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def ends(sink: FileSink, begin: int) -> str:
    """Write until the recording says why it ended."""
    for seq in range(begin, begin + 5000):
        try:
            record(sink, 1, begin=seq)
        except SinkEnded as error:
            return error.message
        time.sleep(0.001)
    raise AssertionError("the recording went on")


@pytest.mark.parametrize("ending", CONTAINERS)
def test_a_recording_is_new_private_and_whole(tmp_path, ending):
    (tmp_path / f"rec{ending}").write_bytes(b"mine")

    with FileSink(tmp_path / f"rec{ending}", W, H, 30) as sink:
        record(sink, 75)
        wait_until(lambda: sink._pictures.empty())

    made = tmp_path / f"rec 2{ending}"
    assert sink.name == f"file {made.name}"
    assert (tmp_path / f"rec{ending}").read_bytes() == b"mine"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    with av.open(str(made)) as container:
        times = [round(picture.time * 30) for picture in container.decode(video=0)]
        length = container.duration / av.time_base
    assert [t - times[0] for t in times] == list(range(75))
    assert length == pytest.approx(2.5, abs=0.05)


@pytest.mark.parametrize("ending", CONTAINERS)
@pytest.mark.parametrize("still", [False, True])
def test_what_is_there_so_far_plays_and_lacks_at_most_a_second(
    tmp_path, monkeypatch, ending, still
):
    if still:  # pictures so small that many fit into a buffer
        monkeypatch.setitem(globals(), "NOISE", np.full_like(NOISE, 90))
    with FileSink(tmp_path / f"rec{ending}", W, H, 30) as sink:
        record(sink, 100)
        wait_until(lambda: sink._pictures.empty())
        time.sleep(0.2)
        shutil.copy(tmp_path / f"rec{ending}", tmp_path / f"killed{ending}")

    assert playable(tmp_path / f"killed{ending}") >= 69


def test_a_recording_without_a_picture_leaves_nothing(tmp_path):
    with FileSink(tmp_path / "rec.mp4", W, H, 30):
        assert list(tmp_path.iterdir()) == []

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("missing/rec.mp4", "its folder does not exist"),
        ("file/rec.mp4", "not a directory"),
        ("rec.webm", "expected a name that ends in .mp4"),
        ("rec", "expected a name that ends in .mp4"),
    ],
)
def test_what_cannot_be_recorded_to_is_told_before_the_camera_opens(tmp_path, name, told):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(SinkError, match=told), open_sinks(f"file:{tmp_path / name}", W, H, 30):
        pass

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_ends_the_recording_keeps_it_and_says_so_once(small_disk, caplog):
    card = Card(W, H)
    (small_disk / "rec.mp4").write_bytes(b"mine")
    caplog.set_level(logging.WARNING)
    with open_sinks(f"file:{small_disk / 'rec.mp4'}", W, H, 30) as sinks:
        outlet = sinks.outlet(card, Stats(), fps=30)
        outlet.patience = 1e9
        with outlet:
            seq = 0
            while outlet.sinks:
                outlet.write(frame(seq))
                seq += 1
                time.sleep(0.001)
                assert seq < 20_000
            told = list(outlet.problems)
            after = time.monotonic() + 2.5 * BACK_OFF.last
            while time.monotonic() < after:
                outlet.write(frame(seq))
                seq += 1
                time.sleep(0.01)

            assert outlet.sinks == []
            assert outlet.problems == told
    assert "the disk is full; what was recorded is kept" in told[0]
    assert len([r for r in caplog.records if "disk is full" in r.getMessage()]) == 1
    assert sorted(path.name for path in small_disk.iterdir()) == ["rec 2.mp4", "rec.mp4"]
    assert (small_disk / "rec.mp4").read_bytes() == b"mine"
    with av.open(str(small_disk / "rec 2.mp4")) as container:  # cut at a whole picture
        assert sum(1 for _ in container.decode(video=0)) > 100


def test_a_disk_that_is_full_at_the_very_end_is_told_of_too(small_disk, caplog):
    with FileSink(small_disk / "rec.mp4", W, H, 30) as sink:
        record(sink, 75)
        wait_until(lambda: sink._pictures.empty())
        time.sleep(0.2)
        with (small_disk / "other").open("wb") as other:
            while os.statvfs(small_disk).f_bavail:
                other.write(bytes(os.statvfs(small_disk).f_bavail * 4096))
                other.flush()

    assert "the disk is full; what was recorded is kept" in caplog.text
    assert playable(small_disk / "rec.mp4") >= 30


def test_a_recording_goes_on_in_its_folder_when_that_is_renamed(tmp_path):
    (tmp_path / "here").mkdir()

    with FileSink(tmp_path / "here" / "rec.mp4", W, H, 30) as sink:
        record(sink, 10)
        (tmp_path / "here").rename(tmp_path / "there")
        record(sink, 60, begin=10)

    assert playable(tmp_path / "there" / "rec.mp4") == 70


@pytest.mark.parametrize("begun", [False, True])
def test_a_recording_whose_folder_is_deleted_ends_with_a_sentence(tmp_path, begun):
    (tmp_path / "here").mkdir()

    with FileSink(tmp_path / "here" / "rec.mp4", W, H, 30) as sink:
        if begun:
            record(sink, 60)
            wait_until((tmp_path / "here" / "rec.mp4").exists)
        shutil.rmtree(tmp_path / "here")
        message = ends(sink, 60)

    assert message.endswith(
        "it was deleted; nothing more is written"
        if begun
        else "its folder does not exist; there is nothing of it"
    )


def test_a_disk_that_hangs_never_holds_up_the_camera(tmp_path, monkeypatch, caplog):
    answer, write = threading.Event(), os.write

    def hang(file, data):
        answer.wait(60)
        return write(file, data)

    monkeypatch.setattr(os, "write", hang)
    with FileSink(tmp_path / "rec.mp4", W, H, 30) as sink:
        done = threading.Thread(target=lambda: [sink.write(frame(i)) for i in range(200)])
        done.start()
        done.join(30)

        assert not done.is_alive()
        assert not answer.is_set()
        answer.set()
    assert sum("left out" in r.getMessage() for r in caplog.records) == 1
    assert 0 < playable(tmp_path / "rec.mp4") < 200


def test_a_name_that_is_not_utf8_is_recorded_to(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xe9c.mp4"))

    with FileSink(path, W, H, 30) as sink:
        record(sink, 40)

    assert playable_bytes(path) == 40


def playable_bytes(path: Path) -> int:
    with path.open("rb") as file, av.open(file) as container:
        return sum(1 for _ in container.decode(video=0))
