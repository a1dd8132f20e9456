"""The one door: what may reach a sink, and what turns into the card."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from tests.fakes import H, W, drain, left_half, pipeline, room
from vcam.frame import SafeFrame
from vcam.guard import Fault, Guard
from vcam.sinks.file import check


def shows_room(safe: SafeFrame) -> bool:
    """True if the right half holds anything of the room; the person is the left half."""
    if safe.is_card:
        return False
    right = safe.data[:H, W // 2 + 8 :].astype(int)
    flat_green = 145  # luma of #00ff00, limited range
    return bool(np.abs(right - flat_green).max() > 12)


def test_the_person_is_kept_and_the_room_replaced():
    pipe, sink = pipeline([room(i) for i in range(6)], look={"light": "off"})

    drain(pipe, 6)

    live = [f for f in sink.frames if not f.is_card]
    assert len(live) == 4
    assert not any(shows_room(f) for f in live)
    left = live[-1].data[:H, : W // 2 - 8]
    assert np.array_equal(left, room(5).planes.y[:, : W // 2 - 8])


def test_nothing_is_shown_before_three_frames_are_confident():
    pipe, sink = pipeline([room(i) for i in range(3)])

    drain(pipe, 3)

    assert [f.is_card for f in sink.frames] == [True, True, False]


def other_seq(matte):
    return replace(matte, seq=matte.seq + 1)


def nan(matte):
    raw = matte.raw.copy()
    raw[3, 3] = np.nan
    return replace(matte, raw=raw)


def nan_edge(matte):
    b = matte.b.copy()
    b[3, 3] = np.inf
    return replace(matte, b=b)


def ones(matte):
    return replace(matte, raw=np.ones_like(matte.raw), alpha=np.ones_like(matte.alpha))


def zeros(matte):
    return replace(matte, raw=np.zeros_like(matte.raw))


def wrong_shape(matte):
    return replace(matte, a=matte.a[:-1])


def unsure(matte):
    noise = np.random.default_rng(matte.seq).uniform(0.2, 0.8, matte.raw.shape)
    return replace(matte, raw=noise.astype(np.float32))


def out_of_range(matte):
    return replace(matte, raw=matte.raw * 3)


@pytest.mark.parametrize(
    "spoil", [other_seq, nan, nan_edge, ones, zeros, wrong_shape, unsure, out_of_range]
)
def test_a_matte_that_is_wrong_becomes_the_card_at_once_and_comes_back(spoil):
    def answer(frame):
        matte = left_half(frame)
        return spoil(matte) if 10 <= frame.seq < 14 else matte

    pipe, sink = pipeline([room(i) for i in range(24)], answer)

    drain(pipe, 24)

    assert not any(f.is_card for f in sink.frames[2:10])
    assert all(f.is_card for f in sink.frames[10:16])
    assert not any(f.is_card for f in sink.frames[16:])
    assert not any(shows_room(f) for f in sink.frames)


def test_a_matte_that_stands_still_while_the_picture_moves_becomes_the_card():
    kept = left_half(room(0))

    def answer(frame):
        fresh = left_half(frame)
        return replace(fresh, raw=kept.raw) if frame.seq >= 6 else fresh

    pipe, sink = pipeline([room(i) for i in range(16)], answer)

    drain(pipe, 16)

    assert all(f.is_card for f in sink.frames[8:])


def test_a_matte_that_stands_still_in_the_dark_becomes_the_card_when_the_person_leaves():
    """Somebody a few levels brighter than the wall: less than a level on the whole."""
    kept = left_half(room(0))

    def answer(frame):
        fresh = left_half(frame)
        picture = np.full_like(fresh.picture, 128)
        picture[0] = 14
        picture[0, ::4] = 16
        if frame.seq < 8:
            picture[0, :, : picture.shape[2] // 7] += 5
        picture[0, frame.seq % 8, 0] ^= 1
        return replace(fresh, raw=kept.raw, picture=picture)

    pipe, sink = pipeline([room(i) for i in range(16)], answer)

    drain(pipe, 16)

    assert not any(f.is_card for f in sink.frames[2:8])
    assert all(f.is_card for f in sink.frames[8:])


def test_a_network_that_stands_still_is_found_out_behind_mattes_that_were_carried_on():
    kept = left_half(room(0))

    def answer(frame):
        fresh = left_half(frame)
        if frame.seq < 6:
            return fresh
        if frame.seq % 2:  # what it said, moved along with the picture
            return replace(fresh, raw=np.roll(kept.raw, 1, axis=0), looked=False)
        return replace(fresh, raw=kept.raw)

    pipe, sink = pipeline([room(i) for i in range(16)], answer)

    drain(pipe, 16)

    assert all(f.is_card for f in sink.frames[8:])


def test_a_carried_matte_may_stay_where_it_is_while_the_light_changes():
    kept = left_half(room(0))

    def answer(frame):
        fresh = left_half(frame)
        return replace(fresh, raw=kept.raw, looked=False) if frame.seq % 2 else fresh

    pipe, sink = pipeline([room(i) for i in range(16)], answer)

    drain(pipe, 16)

    assert not any(f.is_card for f in sink.frames[2:])


def test_a_person_who_suddenly_fills_the_picture_is_not_believed_at_once():
    def answer(frame):
        matte = left_half(frame)
        if frame.seq >= 10:
            matte.alpha[:] = 0.99
            matte.b[:] = 0.99
        return matte

    pipe, sink = pipeline([room(i) for i in range(14)], answer)

    drain(pipe, 14)

    assert all(f.is_card for f in sink.frames[10:12])


def elsewhere(frame):
    """A matte as confident and as large as any, of the wrong half."""
    matte = left_half(frame)
    turned = np.ascontiguousarray(matte.raw[:, ::-1])
    return replace(matte, raw=turned, alpha=turned, b=turned.copy())


def test_a_matte_that_jumps_to_another_place_for_two_frames_never_shows():
    pipe, sink = pipeline(
        [room(i) for i in range(20)],
        lambda frame: elsewhere(frame) if frame.seq in (10, 11) else left_half(frame),
    )

    drain(pipe, 20)

    assert all(f.is_card for f in sink.frames[10:15])
    assert not any(f.is_card for f in sink.frames[15:])
    assert not any(shows_room(f) for f in sink.frames)


def rolled(frame, columns, *, rows=slice(None)):
    """The left half, moved to the right by so many columns in some rows."""
    matte = left_half(frame)
    alpha = matte.alpha.copy()
    alpha[rows] = np.roll(alpha[rows], columns, axis=1)
    return replace(matte, alpha=alpha, b=alpha.copy())


def test_somebody_who_moves_a_tenth_of_themselves_with_each_frame_stays_live():
    pipe, sink = pipeline(
        [room(i) for i in range(12)], lambda frame: rolled(frame, 5 * min(frame.seq, 9))
    )

    drain(pipe, 12)

    assert not any(f.is_card for f in sink.frames[2:])


def test_somebody_whom_a_setting_lets_back_in_shows_no_card():
    def answer(frame):
        matte = left_half(frame)
        if frame.seq >= 8:
            return matte
        alpha = matte.alpha.copy()
        alpha[:, alpha.shape[1] // 4 :] = 0
        return replace(matte, alpha=alpha, b=alpha.copy())

    pipe, sink = pipeline([room(i) for i in range(12)], answer)

    drain(pipe, 12)

    assert not any(f.is_card for f in sink.frames[2:])


def test_a_picture_whose_lower_half_is_torn_away_becomes_the_card():
    pipe, sink = pipeline(
        [room(i) for i in range(9)],
        lambda frame: rolled(frame, 40 if frame.seq == 8 else 0, rows=slice(H // 4, None)),
    )

    drain(pipe, 9)

    assert [f.is_card for f in sink.frames[2:]] == [False] * 6 + [True]


def test_a_matte_that_stays_in_another_place_is_believed_after_three_frames():
    # Somebody may have moved the camera: this is where what the guard can know ends.
    pipe, sink = pipeline(
        [room(i) for i in range(16)],
        lambda frame: elsewhere(frame) if frame.seq >= 8 else left_half(frame),
    )

    drain(pipe, 16)

    assert [f.is_card for f in sink.frames[8:12]] == [True, True, True, False]


def test_an_engine_that_fails_becomes_the_card():
    pipe, sink = pipeline([room(i) for i in range(8)], lambda frame: Fault("engine failed"))

    drain(pipe, 8)

    assert all(f.is_card for f in sink.frames)


def test_a_frame_that_is_too_old_becomes_the_card():
    old = time.monotonic() - 5
    pipe, sink = pipeline([room(i, pts=old + i / 30) for i in range(8)])

    drain(pipe, 8)

    assert all(f.is_card for f in sink.frames)
    assert pipe.stats.late > 0


def test_a_clock_that_jumps_becomes_the_card():
    guard = Guard(deadline=0.5)

    assert not guard.in_time(pts=100.0, now=90.0)
    assert not guard.in_time(pts=100.0, now=200.0)
    assert guard.in_time(pts=100.0, now=100.1)


def test_no_camera_becomes_the_card_with_the_reason():
    pipe, sink = pipeline([Fault("camera unplugged")])

    drain(pipe, 1)

    assert sink.frames[-1].is_card
    assert pipe.verdict.reason == "camera unplugged"


def test_pausing_shows_the_card_and_closes_the_camera():
    pipe, sink = pipeline([room(i) for i in range(10)])
    drain(pipe, 5)

    pipe.settings.set_mode("paused")
    drain(pipe, 2)

    assert all(f.is_card for f in sink.frames[5:])
    assert pipe.capture.wanted[-1] is False


def test_freezing_keeps_showing_the_last_composite_and_never_a_newer_picture():
    pipe, sink = pipeline([room(i) for i in range(10)])
    drain(pipe, 5)

    pipe.settings.set_mode("frozen")
    drain(pipe, 4)

    assert not sink.frames[5].is_card
    assert all(np.array_equal(f.data, sink.frames[4].data) for f in sink.frames[5:])


def test_freezing_before_anybody_was_shown_is_the_card():
    pipe, sink = pipeline([room(i) for i in range(4)])
    pipe.settings.set_mode("frozen")

    drain(pipe, 4)

    assert all(f.is_card for f in sink.frames)


@pytest.mark.parametrize("lost", [[Fault("camera unplugged")], []])
def test_frozen_without_a_camera_is_one_steady_picture(lost):
    """Beside the watchdog, which shows a card of its own where the loop is late."""

    class Lost:
        """A camera that sends five pictures and is gone."""

        source, dropped = None, 0

        def __init__(self):
            self.items = [*(room(i) for i in range(5)), *lost]

        def want(self, wanted):
            pass

        def read(self, timeout):
            if self.items:
                return self.items.pop(0)
            time.sleep(timeout)
            return None

    pipe, sink = pipeline([])
    pipe.capture = Lost()
    with pipe.outlet:
        drain(pipe, 4)
        pipe.settings.set_mode("frozen")
        drain(pipe, 2)
        begun = len(sink.frames)
        drain(pipe, 40)

    shown = sink.frames[begun:]
    assert len(shown) >= 40
    assert {f.is_card for f in shown} == {bool(lost)}
    assert all(np.array_equal(f.data, shown[0].data) for f in shown)


def test_nobody_watching_closes_the_camera_and_keeps_the_card_coming():
    pipe, sink = pipeline([room(i) for i in range(50)], on_demand=True)
    sink.who = []

    drain(pipe, 2)

    assert pipe.verdict.state == "idle"
    assert pipe.capture.wanted[-1] is False
    assert all(f.is_card for f in sink.frames)


def test_room_as_background_is_only_ever_the_users_own_choice():
    pipe, sink = pipeline([room(i) for i in range(10)])

    drain(pipe, 4)
    pipe.settings.show_room("test")
    drain(pipe, 2)
    pipe.settings.hide()
    drain(pipe, 2)

    assert [shows_room(f) for f in sink.frames] == [False] * 4 + [True] * 2 + [False] * 2
    assert [f.revealed for f in sink.frames] == [shows_room(f) for f in sink.frames]
    assert sink.frames[0].is_card


def test_only_compositor_and_card_can_make_what_a_sink_accepts():
    data = np.zeros((H * 3 // 2, W), np.uint8)

    with pytest.raises(TypeError, match="may not make"):
        SafeFrame(data, 0.0, 0, is_card=False, maker="vcam.sources.webcam")
    with pytest.raises(TypeError, match="cannot be subclassed"):
        type("Fake", (SafeFrame,), {})
    with pytest.raises(TypeError, match="expected SafeFrame"):
        check(room(0), W, H)


def test_a_camera_slower_than_the_output_stays_live():
    class Dim:
        """A camera of which 10 frames a second come, as in dim light, for an output of 30."""

        source, dropped, seq = None, 0, 0

        def want(self, wanted):
            pass

        def read(self, timeout):
            time.sleep(min(timeout, 0.1))
            if timeout < 0.1:
                return None
            self.seq += 1
            return room(self.seq)

    pipe, sink = pipeline([])
    pipe.capture = Dim()

    with pipe.outlet:
        drain(pipe, 20)

    assert not any(f.is_card for f in sink.frames[4:])
