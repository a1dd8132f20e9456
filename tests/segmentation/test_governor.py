"""The CPU limit is held, and the picture does not pump."""

from __future__ import annotations

import cv2
import numpy as np

from segmentation.flow import Carrier
from segmentation.governor import LADDER, START, Governor


class Machine:
    """A clock pair that a test moves: `speed` 2 computes twice as fast as the yardstick."""

    def __init__(
        self, *, speed: float = 1.0, fps: float = 30.0, cap: float = 50.0, surprise: float = 1.0
    ) -> None:
        self.speed, self.fps = speed, fps
        self.surprise = surprise  # how much more than expected the highest quality costs
        self.time = self.used = 0.0
        self.governor = Governor(cap, cpu=lambda: self.used, wall=lambda: self.time)
        self.steps: list[int] = []

    def run(self, seconds: float) -> None:
        """Each frame costs 4 ms beside the matte and 6 ms for a balanced matte, at speed 1."""
        until = self.time + seconds
        while self.time < until:
            infer = 0.006 * self.governor.level.cost / self.speed
            if self.quality == "high":
                infer *= self.surprise
            busy = infer + 0.004 / self.speed
            self.used += busy
            self.time += max(1 / self.fps, busy)
            if self.governor.frame(busy, infer):
                self.steps.append(self.governor.step)

    @property
    def quality(self) -> str:
        return LADDER[self.governor.step].quality


def test_a_machine_with_time_to_spare_ends_up_with_high_quality():
    machine = Machine(speed=2)

    machine.run(60)

    assert machine.quality == "high"
    assert machine.governor.load < 0.5


def test_a_slow_machine_steps_down_within_two_seconds():
    machine = Machine(speed=0.5)

    machine.run(2)

    assert machine.governor.step < START


def test_the_cpu_limit_is_held_where_it_can_be():
    machine = Machine(speed=0.8, cap=40)

    machine.run(60)
    used = machine.used
    machine.run(10)

    assert (machine.used - used) / 10 < 0.41


def test_a_machine_that_cannot_keep_the_frame_rate_steps_down_whatever_the_limit():
    machine = Machine(speed=0.25, cap=400)

    machine.run(5)

    assert machine.governor.step < START


def test_the_picture_does_not_pump():
    for speed in (0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0):
        machine = Machine(speed=speed)
        machine.run(600)

        assert len(machine.steps) <= 8, f"at speed {speed}: {machine.steps}"


def test_a_step_up_that_had_to_be_undone_is_tried_ever_more_rarely():
    machine = Machine(speed=1.3, surprise=2.0)

    machine.run(600)

    assert 2 <= len(machine.steps) <= 14
    assert machine.quality == "balanced" or len(machine.steps) % 2


def test_a_webcam_that_was_off_is_not_counted_as_idle_time():
    machine = Machine(speed=0.5)
    machine.run(0.5)
    machine.time += 3600

    machine.run(1.5)

    assert machine.governor.step < START


def test_a_burst_elsewhere_is_got_over():
    machine = Machine(speed=1.2)
    machine.run(30)
    settled = machine.governor.step
    machine.speed = 0.4
    machine.run(20)
    assert machine.governor.step < settled
    machine.speed = 1.2

    machine.run(120)

    assert machine.governor.step == settled


def scene(shift: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    big = cv2.GaussianBlur(rng.integers(0, 256, (120, 240)).astype(np.uint8), (0, 0), 2)
    big = cv2.normalize(big, None, 0, 255, cv2.NORM_MINMAX)
    alpha = np.zeros((120, 240), np.float32)
    cv2.circle(alpha, (110, 70), 35, 1.0, -1)
    move = np.array([[1, 0, shift], [0, 1, 0]], np.float32)
    return tuple(
        cv2.warpAffine(plane, move, (240, 120), borderMode=cv2.BORDER_REPLICATE)
        for plane in (big, alpha)
    )


def test_a_matte_is_carried_to_where_the_person_went():
    carrier = Carrier()
    carrier.keep(*scene(0))
    luma, truth = scene(3)
    out = np.zeros_like(truth)

    carried = carrier.carry(luma, out)

    stale = np.abs(scene(0)[1] - truth).mean()
    assert carried
    assert np.abs(out - truth).mean() < 0.25 * stale


def test_a_frame_that_is_not_found_again_is_not_carried():
    carrier = Carrier()
    luma, alpha = scene(0)
    carrier.keep(luma, alpha)

    assert not carrier.carry(np.asarray(255 - luma, np.uint8), np.zeros_like(alpha))


def test_nothing_is_carried_after_a_reset():
    carrier = Carrier()
    luma, alpha = scene(0)
    carrier.keep(luma, alpha)

    carrier.reset()

    assert not carrier.carry(luma, alpha)
