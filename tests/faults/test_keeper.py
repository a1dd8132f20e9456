"""No picture passes the keeper that is old, torn, out of turn or half drawn by one who died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.vcam.keeping import SIZE, H, W, keeping, until
from vcam.keeper import link as links
from vcam.keeper.link import Link
from vcam.keeper.messages import HOLD, SHOW, Message
from vcam.keeper.output import SILENCE, Output
from vcam.keeper.pictures import CARD, Pictures

DEADLINE = 0.5
CARD_PICTURE = bytes([9]) * SIZE
ROOT = Path(__file__).resolve().parents[2]

# Shows whole pictures of one value each, and dies in the midst of drawing another.
WRITER = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from vcam.keeper import link as links
links._start = lambda folder: None
from vcam.keeper.link import Link
W, H, lines = int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
link = Link(Path(sys.argv[1]), W, H)
link.attach(30)
assert link.wait(10)
link.hold(np.full((H * 3 // 2, W), 9, np.uint8), 0.5)
for value in range(100, 110):
    link.show(np.full((H * 3 // 2, W), value, np.uint8), time.monotonic(), card=False)
    time.sleep(0.005)
slot = (link._slot + 1) % 4
link._pictures.mark(slot, 0)
link._pictures.view(slot)[: W * lines] = bytes([200]) * (W * lines)
os.kill(os.getpid(), signal.SIGKILL)
"""


class Desk:
    """An output, its writer's end, and what came out."""

    def __init__(self) -> None:
        self.now, self.number = 100.0, 0
        self.shown: list[bytes] = []
        self.meanwhile = lambda: None  # what happens between a picture's beginning and its end
        self.mine = Pictures(W * H * 3 // 2)
        self.output = Output(SIZE, lambda: self.now)
        self.output.target = self
        self.output.attach(Pictures(W * H * 3 // 2, os.dup(self.mine.fd)))
        self.draw(CARD, 9)
        self.output.hold(Message(HOLD, slot=CARD, seq=self.number, most=DEADLINE))

    def send(self, fill) -> None:
        import ctypes

        picture = ctypes.create_string_buffer(SIZE)
        self.meanwhile()
        fill(ctypes.addressof(picture))
        self.shown.append(picture.raw)

    def draw(self, slot: int, value: int) -> None:
        self.number += 1
        self.mine.mark(slot, 0)
        self.mine.view(slot)[:] = bytes([value]) * SIZE
        self.mine.mark(slot, self.number)

    def show(self, value: int = 50, *, slot: int = 0, age: float = 0.0, card: bool = False) -> None:
        self.draw(slot, value)
        self.output.show(Message(SHOW, slot=slot, seq=self.number, pts=self.now - age, card=card))


@pytest.fixture
def desk():
    return Desk()


def test_a_picture_in_time_is_shown(desk):
    desk.show(age=DEADLINE - 0.01)

    assert desk.shown == [bytes([50]) * SIZE]


@pytest.mark.parametrize("age", [DEADLINE + 0.01, 60.0, -0.6, float("nan"), float("inf")])
def test_a_picture_that_is_old_or_not_yet_is_the_card(desk, age):
    desk.show(age=age)

    assert desk.shown == [CARD_PICTURE]


def test_a_card_has_no_age(desk):
    desk.show(7, age=60.0, card=True)

    assert desk.shown == [bytes([7]) * SIZE]


def test_a_picture_that_is_drawn_over_while_it_is_copied_is_the_card(desk):
    def redraw():
        desk.mine.mark(0, 0)
        desk.mine.view(0)[: SIZE // 2] = bytes([200]) * (SIZE // 2)

    desk.meanwhile = redraw
    desk.show()

    assert desk.shown == [CARD_PICTURE]


def test_a_picture_whose_slot_has_another_by_now_is_the_card(desk):
    desk.draw(0, 50)
    told = Message(SHOW, slot=0, seq=desk.number, pts=desk.now)
    desk.draw(0, 51)
    desk.output.show(told)

    assert desk.shown == [CARD_PICTURE]


def test_an_older_picture_than_the_last_is_the_card(desk):
    desk.show(50, slot=0)
    first = Message(SHOW, slot=0, seq=desk.number, pts=desk.now)
    desk.show(51, slot=1)
    desk.output.show(first)

    assert desk.shown[-1] == CARD_PICTURE


@pytest.mark.parametrize("slot", [-1, 5, 1 << 14])
def test_a_slot_that_is_none_is_an_error_and_shows_nothing(desk, slot):
    with pytest.raises(OSError, match="no slot"):
        desk.output.show(Message(SHOW, slot=slot, seq=1 << 40, pts=desk.now))

    assert desk.shown == []


def test_silence_is_the_card_and_goes_on_being_it(desk):
    assert SILENCE < 1
    desk.show()
    desk.now += SILENCE - 0.01
    desk.output.tend()
    assert desk.shown[-1] != CARD_PICTURE
    desk.now += 0.02
    for _ in range(5):
        desk.now += desk.output.tend()

    assert desk.shown[1:] == [CARD_PICTURE] * len(desk.shown[1:])
    assert len(desk.shown) >= 4


def test_an_end_is_the_card_at_once(desk):
    desk.show()
    desk.output.detach()

    assert desk.shown[-1] == CARD_PICTURE


def test_a_daemon_that_dies_while_it_draws_leaves_the_card_and_nothing_of_it(tmp_path):
    with keeping(tmp_path) as kept:
        for lines in (1, H // 2, H, H * 3 // 2):
            subprocess.run(
                [sys.executable, "-c", WRITER, str(tmp_path), str(W), str(H), str(lines)],
                cwd=ROOT, check=False, timeout=60,
            )  # fmt: skip
            until(lambda: kept.node.shown and kept.node.shown[-1] == CARD_PICTURE)
        shown = list(kept.node.shown)

    whole = {bytes([value]) * SIZE for value in (9, *range(100, 110))}
    assert len({*shown} - {CARD_PICTURE}) >= 5
    assert {*shown} <= whole


def test_a_daemon_that_is_killed_at_any_moment_leaves_the_card(tmp_path):
    endless = WRITER.replace("range(100, 110)", "__import__('itertools').cycle(range(100, 110))")
    endless = endless.replace("time.sleep(0.005)", "pass")
    with keeping(tmp_path) as kept:
        for i in range(6):
            writer = subprocess.Popen(
                [sys.executable, "-c", endless, str(tmp_path), str(W), str(H), "1"], cwd=ROOT
            )
            before = len(kept.nodes) and len(kept.node.shown)
            until(lambda: kept.nodes and len(kept.node.shown) > before + 20, 60)  # noqa: B023
            time.sleep(0.0013 * i)
            writer.send_signal(signal.SIGKILL)
            writer.wait(30)
            until(lambda: kept.node.shown[-1] == CARD_PICTURE)
        shown = list(kept.node.shown)

    assert {*shown} <= {bytes([value]) * SIZE for value in (9, *range(100, 110))}


def test_pictures_that_come_faster_than_they_are_taken_are_never_torn(tmp_path, monkeypatch):
    monkeypatch.setattr(links, "_start", lambda folder: None)
    with keeping(tmp_path) as kept:
        link = Link(tmp_path, W, H)
        link.attach(30)
        assert link.wait(5)
        link.hold(np.full((H * 3 // 2, W), 9, np.uint8), DEADLINE)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            for value in range(100, 110):
                link.show(np.full((H * 3 // 2, W), value, np.uint8), time.monotonic(), card=False)
                time.sleep(0.0002)
        link.close()
        shown = list(kept.node.shown)

    assert all(len({*picture}) == 1 for picture in shown)
