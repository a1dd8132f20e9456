"""Pictures for `vcam personalise`: five steps before the webcam, each after a countdown."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vcam.errors import SourceError
from vcam.foreign_text import say
from vcam.words import _, mark

if TYPE_CHECKING:
    from vcam.files.takes import Take
    from vcam.sources.base import Source
    from vcam.system.interrupt import Interrupt

COUNTDOWN: Final = 5  # seconds to get ready for a step
EVERY: Final = 0.25  # seconds from one picture to the next
SILENT: Final = 5.0  # seconds without a picture, after which the camera is given up


@dataclass(frozen=True, slots=True)
class Step:
    """Something the user is asked to do, for so many seconds."""

    name: str  # of the pictures' files, whose order is that of the steps
    text: str
    seconds: float


STEPS: Final = (
    Step("0-empty", mark("Step out of the picture: your room alone is seen."), 8),
    Step("1-sit", mark("Sit down as you always do; talk, look around."), 14),
    Step("2-lean", mark("Lean to both sides, back, and close to the camera."), 14),
    Step("3-headset", mark("Put on your headset, if you have one, and move your head."), 12),
    Step("4-mug", mark("Hold your mug, a phone, a sheet of paper before you."), 12),
)


def capture(
    opened: Callable[[], Source],
    steps: Sequence[Step],
    take: Take,
    interrupt: Interrupt,
    *,
    countdown: int = COUNTDOWN,
) -> None:
    """Go through the steps, each after a countdown, and put pictures of them into `take`.

    Raises:
        SourceError: the camera cannot be opened, or sends nothing.
        Stopped: a signal came.
    """
    started = time.monotonic()

    def watch(seconds: float, shown: Callable[[Any], None]) -> None:
        end = seen = time.monotonic()
        end += seconds
        while (now := time.monotonic()) < end:
            interrupt.check("taking pictures")
            frame = source.read(0.5)
            if frame is not None:
                seen = now
                shown(frame)
            elif now - seen > SILENT:
                raise SourceError(f"{source.name} sends no pictures", hint="Check the camera.")

    with opened() as source:
        for number, step in enumerate(steps, 1):
            say(f"\n{number}/{len(steps)}  {_(step.text)}")
            for left in range(countdown, 0, -1):
                say(f"{left} …")
                watch(1.0, lambda frame: None)
            say(_("Now, for {0} seconds.", f"{step.seconds:g}"))
            due = 0.0

            def shown(frame: Any, step: Step = step) -> None:
                nonlocal due
                now = time.monotonic()
                if now >= due:
                    due = now + EVERY
                    take.add(frame.planes, step.name, now - started)

            watch(step.seconds, shown)
