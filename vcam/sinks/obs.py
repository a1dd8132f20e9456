"""OBS Studio's virtual camera on Windows and macOS, through pyvirtualcam."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pyvirtualcam

from vcam.errors import SinkError
from vcam.sinks.file import check

if TYPE_CHECKING:
    from typing_extensions import Self

    from vcam.frame import SafeFrame


class ObsSink:
    """Shows frames as "OBS Virtual Camera". One writer.

    Raises:
        SinkError: OBS' virtual camera is not installed, or another program feeds it.
    """

    kind = "obs"

    def __init__(self, width: int, height: int, fps: float) -> None:
        self.name = "OBS Virtual Camera"
        self.width, self.height, self.fps = width, height, fps
        self._camera: Any = None

    def __enter__(self) -> Self:
        if sys.platform.startswith("linux"):
            raise SinkError(
                "OBS' virtual camera is not used on Linux",
                hint='Set output.sink = "auto": v4l2loopback and PipeWire serve here.',
            )
        try:
            self._camera = pyvirtualcam.Camera(
                self.width,
                self.height,
                self.fps,
                fmt=pyvirtualcam.PixelFormat.I420,
                backend="obs",
            )
        except (RuntimeError, KeyError) as error:
            raise SinkError(
                f"OBS' virtual camera cannot be opened: {error}",
                hint="Install OBS Studio, start and stop its virtual camera once, and close OBS.",
            ) from error
        return self

    def write(self, frame: SafeFrame) -> None:
        """Show `frame`; its pixels are copied when this returns."""
        check(frame, self.width, self.height)
        if self._camera is None:
            raise SinkError(f"{self.name} is not open")
        try:
            self._camera.send(frame.data)
        except (RuntimeError, OSError) as error:
            raise SinkError(
                f"{self.name} cannot be written: {error}", hint="Close OBS, then start again."
            ) from error

    def watchers(self) -> list[str] | None:
        """Neither system says who watches."""
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._camera is not None:
            camera, self._camera = self._camera, None
            camera.close()
