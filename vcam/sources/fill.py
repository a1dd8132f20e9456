"""A source cropped to the output's shape: a phone held upright, say, that fills the frame."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from segmentation.planes import Planes
from vcam.frame import Frame

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from vcam.sources.base import Source

HEADROOM: Final = 0.3  # share of what is cut off that is cut off at the top: heads are near it


class Filling:
    """Wraps a source; its frames lose what lies outside the shape of `width` x `height`.

    Frames are views of the source's own. Packed pictures are not asked for: they cannot be cropped.
    """

    def __init__(self, source: Source, width: int, height: int) -> None:
        self._source, self._shape = source, (width, height)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __enter__(self) -> Self:
        self._source.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._source.__exit__(kind, error, trace)

    def read(self, timeout: float) -> Frame | None:
        """Return the source's next frame, cropped."""
        frame = self._source.read(timeout)
        return None if frame is None else filled(frame, *self._shape)


def filled(frame: Frame, width: int, height: int) -> Frame:
    """The part of `frame` that has the shape of `width` x `height`, as large as it may be."""
    w, h = frame.width, frame.height
    keep_w = min(w, max(2, round(h * width / height / 2) * 2))
    keep_h = min(h, max(2, round(w * height / width / 2) * 2))
    if (keep_w, keep_h) == (w, h):
        return frame
    left = (w - keep_w) // 4 * 2
    top = int((h - keep_h) * HEADROOM) // 2 * 2
    rows = frame.planes.chroma_rows

    def part(plane: NDArray[Any], x: int, y: int, across: int, down: int) -> NDArray[Any]:
        return plane[y : y + down, x : x + across]

    chroma = (left // 2, top * rows // 2, keep_w // 2, keep_h * rows // 2)
    y, u, v = frame.planes.each
    kept = (part(y, left, top, keep_w, keep_h), part(u, *chroma), part(v, *chroma))
    return Frame(Planes(*kept, full_range=frame.planes.full_range), frame.pts, frame.seq)
