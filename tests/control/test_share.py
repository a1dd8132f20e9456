"""A share that stops answering: everything else goes on, and the daemon ends when it is told to."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.control.doors import until
from tests.share import Share, mounted
from tests.vcam.clips import make_clip
from vcam.client import Client
from vcam.compose import backdrops, library
from vcam.compose.backdrops import open_backdrop
from vcam.errors import BackgroundError, SourceError, VcamError
from vcam.files import watched
from vcam.media import pictures
from vcam.settings import config
from vcam.settings.choice import Preset
from vcam.sources import check_source, source_opener
from vcam.sources.capture import Capture
from vcam.system import paths, patience

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts a share of Linux")
VCAM = [sys.executable, "-m", "vcam"]
GIVEN_UP = patience.PATIENCE + 2.5  # seconds after which a file that hangs has been refused


@pytest.fixture
def share(tmp_path: Path) -> Iterator[Share]:
    with mounted(tmp_path) as one:
        Image.new("RGB", (64, 36), (200, 30, 30)).save(one.folder / "red.png")
        Image.new("RGB", (64, 36), (30, 30, 200)).save(one.folder / "blue.png")
        make_clip(one.folder / "clip.mp4", 60)
        yield one


@pytest.fixture
def linked(share: Share) -> Share:
    """The share's files are presets, beside one that lies here."""
    folder = paths.backgrounds_dir()
    folder.mkdir(parents=True)
    for name in ("red.png", "blue.png", "clip.mp4"):
        (folder / name).symlink_to(share.here / name)
    Image.new("RGB", (64, 36), (30, 200, 30)).save(folder / "mine.png")
    return share


@pytest.fixture
def camera() -> Iterator[Client]:
    """A real daemon on the demo picture, live."""
    cache = os.environ.get("VCAM_TEST_CACHE") or str(Path("~/.cache").expanduser())
    subprocess.run(
        [*VCAM, "start", "--source", "demo", "--sink", "none"],
        env=os.environ | {"XDG_CACHE_HOME": cache},
        check=True,
        timeout=120,
    )
    client = Client.connect()
    pid = client.status()["pid"]
    yield client
    if Path(f"/proc/{pid}").exists():
        os.kill(pid, 9)


class Asked:
    """A call under way, and what came of it after how long."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.error: VcamError | None = None
        self.answer: Any = None
        self._call, self._begun, self.took = call, time.monotonic(), float("inf")
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.answer = self._call()
        except VcamError as error:
            self.error = error
        self.took = time.monotonic() - self._begun

    def ended(self) -> Asked:
        self._thread.join(30)
        return self


def refused(call: Callable[[], Any]) -> None:
    with pytest.raises(VcamError):
        call()


def says(camera: Client, words: str) -> bool:
    return any(words in problem for problem in camera.status()["problems"])


def timed(call: Callable[[], Any]) -> float:
    begun = time.monotonic()
    call()
    return time.monotonic() - begun


@pytest.mark.parametrize("name", ["red.png", "clip.mp4"])
def test_a_background_that_hangs_is_refused_by_name_and_the_next_one_at_once(share, name):
    open_backdrop(str(share.here / name), 64, 36).close()
    share.hang()

    first = Asked(lambda: open_backdrop(str(share.here / name), 64, 36)).ended()
    again = Asked(lambda: open_backdrop(str(share.here / name), 64, 36)).ended()

    assert isinstance(first.error, BackgroundError)
    assert name in str(first.error)
    assert "does not answer" in str(first.error)
    assert patience.PATIENCE - 0.5 < first.took < GIVEN_UP
    assert isinstance(again.error, BackgroundError)
    assert again.took < 0.2
    share.answer()
    until(lambda: not patience.hangs(share.here / name), 10)
    open_backdrop(str(share.here / name), 64, 36).close()


def test_a_clip_that_hangs_while_it_plays_stands_still_and_goes_on_when_its_share_answers(share):
    clip = open_backdrop(str(share.here / "clip.mp4"), 64, 36)
    share.hang()
    begun = time.monotonic()
    while not clip.problem and time.monotonic() < begun + 20:
        assert timed(lambda: clip.at(time.monotonic() * 8)) < 0.2
        time.sleep(0.02)
    still = clip.at(time.monotonic() * 8).copy()

    assert "does not answer" in clip.problem
    assert np.array_equal(clip.at(time.monotonic() * 8), still)
    share.answer()
    until(lambda: not np.array_equal(clip.at(time.monotonic() * 8), still), 10)
    assert clip.problem == ""
    share.hang()
    time.sleep(0.5)
    assert timed(clip.close) < 1.0
    thread = clip._thread
    share.answer()
    until(lambda: not thread.is_alive(), 10)  # which closed the file itself


def test_a_picture_being_decoded_on_a_share_that_hangs_keeps_no_other_from_being_decoded(
    share, tmp_path
):
    """One above the size that is read before its turn comes."""
    large = share.folder / "large.bmp"
    Image.new("RGB", (4000, 3000)).save(large)
    with large.open("ab") as file:
        file.truncate(40 << 20)
    Image.new("RGB", (64, 36), (200, 30, 30)).save(tmp_path / "here.png")
    asked = Asked(lambda: open_backdrop(str(share.here / "large.bmp"), 64, 36))
    while pictures._turn._holder is None:
        time.sleep(0.001)
    share.hang()

    other = Asked(lambda: open_backdrop(str(tmp_path / "here.png"), 64, 36)).ended()

    assert other.error is None
    assert other.took < GIVEN_UP
    asked.ended()


def test_presets_that_hang_are_left_out_and_the_others_are_listed_at_once(linked):
    whole = [preset.name for preset in backdrops.presets()]
    linked.hang()

    first = Asked(backdrops.presets).ended()
    again = Asked(backdrops.presets).ended()

    assert {"red", "blue", "clip", "mine"} <= set(whole)
    assert "mine" in [preset.name for preset in first.answer]
    assert first.took < 1.5
    assert again.took < 0.2
    assert backdrops.small(Preset("mine"))[:2] == b"\xff\xd8"
    linked.answer()
    until(lambda: [preset.name for preset in backdrops.presets()] == whole, 10)


def test_a_change_to_a_background_that_hangs_holds_up_no_other_change(linked, camera):
    linked.hang()
    picture = Asked(lambda: camera.change({"background": {"use": str(linked.here / "red.png")}}))
    thumbnails = [Asked(lambda n=n: camera.thumbnail(n)) for n in ("red", "blue", "clip", "mine")]
    time.sleep(0.3)

    took = {
        "status": timed(camera.status),
        "mirror": timed(lambda: camera.change({"camera": {"mirror": True}})),
        "scene": timed(lambda: camera.use("loft")),
        "colour": timed(lambda: camera.change({"background": {"use": "#204060"}})),
        "own": timed(lambda: camera.change({"background": {"use": "mine"}})),
        "pause": timed(camera.pause),
        "resume": timed(camera.resume),
        "presets": timed(camera.presets),
    }

    print({name: round(seconds, 2) for name, seconds in took.items()})
    assert max(took.values()) < 1.5, took
    assert camera.status()["background"] == "mine"
    assert picture.ended().error is not None
    assert "red.png" in str(picture.error)
    assert picture.took < GIVEN_UP
    assert [one.ended().took < GIVEN_UP for one in thumbnails] == [True] * 4
    assert thumbnails[3].error is None
    assert camera.status()["background"] == "mine"
    assert camera.settings()["values"]["camera"]["mirror"]


def test_a_watched_folder_that_hangs_holds_up_neither_frames_nor_page_nor_stop(share, camera):
    wishes = {"background": {"folder": str(share.here)}, "output": {"on_demand": False}}
    camera.change(wishes)
    assert {"red", "blue", "clip"} <= {one["name"] for one in camera.presets()}
    camera.use("clip")
    until(lambda: camera.status()["state"] == "live", 30)
    told = camera.events()
    share.hang()
    first = timed(camera.status)
    before, begun = camera.status()["frames"]["composited"], time.monotonic()

    took = {
        "red": timed(lambda: refused(lambda: camera.use("red"))),
        "presets": timed(camera.presets),
        "status": timed(camera.status),
        "thumbnail": timed(lambda: camera.thumbnail("loft")),
        "scene": timed(lambda: camera.use("loft")),
        "name tag": timed(lambda: camera.change({"overlay": {"name": "Anna"}})),
        "an event": timed(lambda: next(told)),
        "problem": timed(lambda: until(lambda: says(camera, "does not answer"), 3)),
        "no folder": timed(lambda: camera.change({"background": {"folder": ""}})),
        "at first": first,
    }
    time.sleep(1.0)
    frames = camera.status()["frames"]["composited"] - before
    rate = frames / (time.monotonic() - begun)
    took["stop"] = timed(camera.stop)

    print({name: round(seconds, 2) for name, seconds in took.items()}, rate)
    assert max(took.values()) < 1.5, took
    assert rate > 5  # frames a second, on a machine that is busy
    until(lambda: not paths.socket_path().exists(), 3)


@pytest.mark.parametrize("choose", [library.find, lambda name: open_backdrop(name, 64, 36)])
def test_a_background_of_a_watched_folder_that_hangs_is_said_not_to_be_found(share, choose):
    watched.watch(str(share.here))
    try:
        with contextlib.suppress(BackgroundError):
            choose("purple")  # there is none
        share.hang()
        patience.each([share.here / "red.png"], backdrops._facts, seconds=0.2)

        with pytest.raises(BackgroundError) as refused_for:
            choose("red")

        assert f"the folder {str(share.here)!r} does not answer" in refused_for.value.message
        assert "preset" not in refused_for.value.message
        assert "`vcam background`" in refused_for.value.hint
        with pytest.raises(BackgroundError, match="a preset"):  # not of that folder
            choose("/elsewhere/red.png")
        share.answer()
        until(lambda: not patience.hangs(share.here), 5)
        with pytest.raises(BackgroundError, match="a preset"):
            choose("purple")
    finally:
        watched.watch("")


def test_the_files_of_a_watched_folder_hang_together(share):
    watched.watch(str(share.here))
    try:
        files = [share.here / name for name in ("red.png", "blue.png", "clip.mp4")]
        share.hang()

        took = timed(lambda: patience.each(files, backdrops._facts, seconds=0.5))

        assert took < 0.9  # one wait, and not one for each
        assert all(patience.hangs(path) for path in files)
        assert not patience.hangs(paths.backgrounds_dir() / "mine.png")
        share.answer()
        until(lambda: not patience.hangs(files[0]), 5)
    finally:
        watched.watch("")


def test_a_background_that_was_chosen_earlier_and_opens_later_does_not_take_over(linked, camera):
    linked.hang()
    use = str(linked.here / "blue.png")
    early = Asked(lambda: camera.change({"background": {"use": use}, "camera": {"mirror": True}}))
    time.sleep(0.5)

    camera.change({"background": {"use": "coast"}})
    linked.answer()

    assert early.ended().error is None
    values = camera.settings()["values"]
    assert values["background"]["use"] == "coast"
    assert values["camera"]["mirror"]  # the rest of that change counts
    time.sleep(1.5)
    assert config.load(config.user_path(), environ={}).background.use == "coast"


@pytest.mark.parametrize("use", ["red.png", "clip.mp4"])
def test_stop_takes_two_seconds_at_most_whatever_hangs(linked, camera, use):
    camera.change({"background": {"use": str(linked.here / "clip.mp4")}})
    time.sleep(0.5)
    linked.hang()
    asked = [Asked(lambda: camera.change({"background": {"use": str(linked.here / use)}}))]
    asked += [Asked(lambda n=n: camera.thumbnail(n)) for n in ("red", "blue", "clip")]
    (config.user_path()).write_text(f'[background]\nuse = "{linked.here / "blue.png"}"\n')
    time.sleep(1)

    took = timed(lambda: subprocess.run([*VCAM, "stop"], check=True, timeout=30))

    print(f"{took:.2f} s")
    assert took < 2.0 + 1.0  # the command's own start
    linked.answer()
    for one in asked:
        one.ended()


def test_a_daemon_whose_background_hangs_starts_with_a_safe_one_and_says_so(linked, tmp_path):
    linked.hang()
    config.user_path().parent.mkdir(parents=True, exist_ok=True)
    config.user_path().write_text(f'[background]\nuse = "{linked.here / "red.png"}"\n')
    cache = os.environ.get("VCAM_TEST_CACHE") or str(Path("~/.cache").expanduser())
    subprocess.run(
        [*VCAM, "start", "--source", "demo", "--sink", "none"],
        env=os.environ | {"XDG_CACHE_HOME": cache},
        check=True,
        timeout=120,
    )
    client = Client.connect()
    try:
        problems = client.status()["problems"]
        assert any("red.png" in p and "'studio' is shown instead" in p for p in problems), problems
    finally:
        client.stop()


def test_another_camera_is_taken_up_while_a_clip_that_stood_for_one_hangs(share):
    settings = config.load(config.default_path(), environ={})

    def opener(source: Path | str) -> Callable[[], Any]:
        camera = settings.camera.model_copy(update={"source": str(source)})
        return source_opener(camera, settings.output)

    with Capture(opener(share.here / "clip.mp4")) as capture:
        capture.want(True)
        until(lambda: capture.read(1.0) is not None)
        share.hang()
        until(lambda: capture._reader.hangs)
        before = capture._camera

        capture.switch(opener("demo"))

        until(lambda: capture.source is not None and capture.source.name == "demo picture", 5)
        share.answer()
        until(lambda: before.over, 10)
        assert capture.source is not None
        assert capture.source.name == "demo picture"


def test_a_source_that_hangs_is_refused_by_name(share):
    settings = config.load(config.default_path(), environ={})
    camera = settings.camera.model_copy(update={"source": str(share.here / "clip.mp4")})
    share.hang()

    asked = Asked(lambda: check_source(camera, settings.output)).ended()

    assert isinstance(asked.error, SourceError)
    assert "clip.mp4" in str(asked.error)
    assert asked.took < GIVEN_UP
