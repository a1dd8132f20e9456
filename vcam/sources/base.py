"""The contract of everything that produces frames."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from typing_extensions import Self

    from vcam.frame import Frame


@runtime_checkable
class Source(Protocol):
    """Produces frames. Open on entry, closed on exit, owned by one thread."""

    name: str  # what a person would call it: "Logitech C920", "clip holiday.mp4", "demo picture"
    fps: float  # frames per second that were granted
    live: bool  # True: paced by the world, newest frame wins; False: every frame counts (render)

    def read(self, timeout: float) -> Frame | None:
        """Return the next frame, or None if none came within `timeout` seconds.

        Raises:
            SourceError: the camera went away or sends what cannot be decoded; close, open again.
            EOFError: the source ended and does not loop.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
