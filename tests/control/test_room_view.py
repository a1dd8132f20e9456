"""The button that shows one's own room shows it to nobody else, and forgets at once."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref

import numpy as np
import pytest

from tests.fakes import H, StepClock, W, drain, pipeline, room
from vcam.control.jobs import on_worker
from vcam.errors import SinkError
from vcam.room_view import LEASE, RoomView, RoomWindow


def test_no_sink_sees_the_room_while_the_button_is_held():
    def frames():
        return [room(seq, 100 + seq / 30, seed=seq) for seq in range(40)]

    held, seen = pipeline(frames())
    alone, expected = pipeline(frames())
    views = []
    for _ in range(40):
        ask = threading.Thread(target=lambda: views.append(held.room_window.look(0)))
        ask.start()
        ask.join()
        drain(held, 1)
        drain(alone, 1)

    rooms = [view for view in views if view is not None]
    assert len(rooms) >= 38
    assert all(isinstance(view, RoomView) for view in rooms)
    assert len(seen.frames) == len(expected.frames) == 40
    for mine, theirs in zip(seen.frames, expected.frames, strict=True):
        assert np.array_equal(mine.data, theirs.data)


def test_a_view_of_the_room_is_no_frame_for_a_sink():
    pipe, sink = pipeline([])
    peek = RoomWindow()
    peek.look(0)
    peek.offer(room(0))
    view = peek.look(0)
    assert view is not None

    with pytest.raises((TypeError, SinkError, AttributeError)):
        sink.write(view)
    with pytest.raises((TypeError, AttributeError)):
        pipe.outlet.write(view)

    assert sink.frames == []


def test_nothing_is_kept_before_anybody_asks_nor_after_the_lease():
    clock = StepClock()
    peek = RoomWindow(clock)
    peek.offer(room(0))
    assert peek._view is None

    assert peek.look(0) is None
    peek.offer(room(1))
    assert peek._view is not None
    clock.now += LEASE + 0.01
    peek.offer(room(2))

    assert peek._view is None
    peek.offer(room(3))
    assert peek._view is None


def test_a_view_is_given_once_and_wiped_when_the_webcam_rests():
    peek = RoomWindow()
    peek.look(0)
    peek.offer(room(1))

    assert peek.look(0) is not None
    assert peek.look(0) is None
    peek.offer(room(2))
    peek.offer(None)
    assert peek.look(0) is None


def test_pausing_wipes_what_was_seen():
    pipe, _ = pipeline([room(seq, 100 + seq / 30, seed=seq) for seq in range(5)])
    pipe.room_window.look(0)
    drain(pipe, 2)
    assert pipe.room_window._view is not None

    pipe.settings.set_mode("paused")
    drain(pipe, 1)

    assert pipe.room_window._view is None


def test_the_view_has_the_colours_of_the_room_and_is_mirrored_like_the_picture():
    frame = room(0)
    peek = RoomWindow()
    views = []
    for mirror in (False, True):
        peek.look(0)
        peek.offer(frame, mirror=mirror)
        views.append(peek.look(0))

    straight, mirrored = (view.bgr for view in views)

    assert straight.shape == (H, W, 3)
    assert np.array_equal(straight, mirrored[:, ::-1])
    luma = straight.astype(float) @ (0.114, 0.587, 0.299)
    y = frame.planes.y
    expected = y if frame.planes.full_range else (y.astype(float) - 16) * 255 / 219
    assert abs(luma.mean() - np.clip(expected, 0, 255).mean()) < 6


def test_a_worker_keeps_no_answer():
    """Else the last pictures of the room would lie there until somebody asks something."""

    class Answer:
        pass

    async def ask() -> weakref.ref[Answer]:
        return weakref.ref(await on_worker(Answer))

    async def asked() -> list[weakref.ref[Answer]]:
        return [await ask() for _ in range(20)]

    answers = asyncio.run(asked())
    until = time.monotonic() + 5
    while any(one() is not None for one in answers) and time.monotonic() < until:
        time.sleep(0.01)
    assert [one() for one in answers if one() is not None] == []
