"""The CPU limit is held, and the picture does not pump."""

from __future__ import annotations

from segmentation.governor import LADDER, START, Governor


class Machine:
    """A clock pair that a test moves: `speed` 2 computes twice as fast as the yardstick."""

    def __init__(
        self, *, speed: float = 1.0, fps: float = 30.0, cap: float = 50.0, surprise: float = 1.0
    ) -> None:
        self.speed, self.fps = speed, fps
        self.surprise = surprise  # how much more than expected the highest step costs
        self.time = self.used = 0.0
        self.governor = Governor(cap, cpu=lambda: self.used, wall=lambda: self.time)
        self.steps: list[int] = []

    def run(self, seconds: float) -> None:
        """Each frame costs 4 ms beside the network and 10 ms for it at cost 1, at speed 1."""
        until = self.time + seconds
        while self.time < until:
            infer = 0.010 * self.governor.level.cost / self.speed
            if self.governor.step == len(LADDER) - 1:
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

    assert 4 <= len(machine.steps) <= 14
    assert {*machine.steps[-4:]} == {len(LADDER) - 2, len(LADDER) - 1}


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
