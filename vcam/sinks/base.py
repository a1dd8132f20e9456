"""The contract of everything that shows frames to others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from vcam.errors import SinkError

if TYPE_CHECKING:
    from typing_extensions import Self

    from vcam.frame import SafeFrame


@runtime_checkable
class Sink(Protocol):
    """Shows frames to others at one fixed size. Open on entry, closed on exit, one writer."""

    name: str  # what a person would call it: "VBG Camera (/dev/video10)", "file out.mp4"
    width: int  # pixels, even, fixed for the sink's life
    height: int

    def write(self, frame: SafeFrame) -> None:
        """Show `frame`; returns once its pixels were copied or handed to the kernel.

        Raises:
            SinkError: the device refused; the pipeline keeps running and tries to open it again.
            TypeError: `frame` is anything but a SafeFrame of this sink's size.
        """
        ...

    def watchers(self) -> list[str] | None:
        """Names of the programs that stream from this sink now; None where it cannot be known.

        An unnamed watcher counts as "unknown program". Cheap enough to be asked twice a second.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class Keeping(Protocol):
    """A sink that others go on showing when this process hangs or ends."""

    def hold(self, card: SafeFrame, deadline: float) -> None:
        """Keep `card` for when frames stop, or one comes older than `deadline` seconds.

        Raises:
            SinkError: the device refused.
        """
        ...


@runtime_checkable
class Rated(Protocol):
    """A sink that tells programs how many frames a second come."""

    def announce(self, fps: float) -> None:
        """Tell of another rate; does nothing where the device has no word for it."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """One sink that the settings ask for, by its name in them. `opener` makes it; it is not open.

    A sink that is `hoped` for may be missing. One that is not `lasting` is not looked for again
    while it never was there.
    """

    name: str
    opener: Callable[[], Sink]
    hoped: bool = False
    lasting: bool = True

    def open(self) -> Sink:
        """The sink, open.

        Raises:
            SinkError: it cannot be opened.
        """
        try:
            sink = self.opener()
            sink.__enter__()
        except SinkError as error:
            if not self.hoped:
                raise
            raise SinkError(f"{self.name}: {error}\n{error.hint}".strip()) from error
        return sink
