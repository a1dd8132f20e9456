"""Times that run: the clock of the name tag and the countdown of the card, drawn off the loop."""

from __future__ import annotations

import logging
import math
import threading
from typing import TYPE_CHECKING

from vcam.overlay.tag import Tag, clock_now
from vcam.system.systemd import boottime
from vcam.words import mark

if TYPE_CHECKING:
    from vcam.compose.card import Card
    from vcam.pipeline import Pipeline
    from vcam.settings.config import Config
    from vcam.settings.live import Now

log = logging.getLogger(__name__)


class Times:
    """Draws the name tag for a pipeline, and the countdown of its card. Any thread may ask."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._tag = self._made(pipeline.settings.current, strict=False)
        self._drawing = threading.Lock()  # held for an instant: which tag is shown
        self._clock = clock_now(self._tag.wish)
        pipeline.show_overlay(self._tag.drawn(self._clock))
        self._announced: tuple[Card, str] = pipeline.outlet.card, ""

    def tag(self, config: Config) -> Tag:
        """Make the tag of `config`, ready to be shown.

        A logo that was chosen before, and is gone since, stands in the way of no other change.

        Raises:
            BackgroundError: a logo that is chosen now cannot be read.
        """
        return self._made(config, strict=config.overlay.logo != self._tag.wish.logo)

    def show(self, tag: Tag) -> None:
        """Show this tag from the next frame on."""
        clock = clock_now(tag.wish)
        overlay = tag.drawn(clock)
        with self._drawing:
            self._tag, self._clock = tag, clock
            self._pipeline.show_overlay(overlay)

    def tend(self) -> None:
        """Draw anew what has changed."""
        tag, clock = self._tag, clock_now(self._tag.wish)
        if clock != self._clock:
            overlay = tag.drawn(clock)
            with self._drawing:
                if tag is self._tag:
                    self._clock = clock
                    self._pipeline.show_overlay(overlay)
        card, notice = self._pipeline.outlet.card, _notice(self._pipeline.settings.now)
        if (card, notice) != self._announced:
            card.announce(notice)
            self._announced = card, notice

    @property
    def problem(self) -> str:
        """Reason that the tag has no logo, and the way out; "" where nothing is wrong."""
        return self._tag.problem

    def _made(self, config: Config, *, strict: bool) -> Tag:
        outlet = self._pipeline.outlet
        tag = Tag(config.overlay, outlet.width, outlet.height, strict=strict)
        if tag.problem:
            log.warning("%s", tag.problem.splitlines()[0])
        tag.drawn(clock_now(config.overlay))  # looks for typefaces
        return tag

    def status(self) -> dict[str, object]:
        """Seconds until the user is back, and where the tag lies, as shares of the picture."""
        compositor = self._pipeline.compositor
        overlay, size = compositor.overlay, (compositor.width, compositor.height)
        place = None
        if overlay is not None:
            sides = zip(overlay.place, size * 2, strict=True)
            place = [round(length / whole, 5) for length, whole in sides]
        return {"back_in_s": seconds_left(self._pipeline.settings.now), "overlay": place}


def seconds_left(now: Now) -> int | None:
    """Seconds until the user said to be back; None where nothing was said."""
    return None if now.back_at is None else max(0, math.ceil(now.back_at - boottime()))


def _notice(now: Now) -> str:
    """Words of the card in a pause that ends at a time; "" where there is none."""
    if now.mode != "paused" or now.back_at is None:
        return ""
    left = seconds_left(now)
    if not left:
        return mark("Back soon")
    hours, minutes, seconds = left // 3600, left // 60 % 60, left % 60
    time_left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return mark(f"Back in {time_left}")
