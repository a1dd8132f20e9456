"""Which source a `[camera] source` names, opened anew each time it is asked for."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vcam.errors import SourceError

if TYPE_CHECKING:
    from vcam.config import Camera, Output
    from vcam.sources.base import Source

log = logging.getLogger(__name__)


def source_opener(camera: Camera, output: Output) -> Callable[[], Source]:
    """Return what makes the source that `camera` asks for; nothing is opened here."""

    def opened() -> Source:
        source = _make(camera, output)
        if not camera.fill:
            return source
        from vcam.sources.fill import Filling

        return Filling(source, output.width, output.height)

    return opened


def resolve(camera: Camera) -> str:
    """Say what `source = "auto"` means right now: a camera's path, or "demo".

    Raises:
        VcamError: a camera that was named does not exist.
    """
    if camera.source != "auto":
        return camera.source
    from vcam.devices import list_cameras

    cameras = list_cameras()
    return cameras[0].path if cameras else "demo"


def wait_for_camera(timeout: float) -> object:
    """Sleep until a device comes or goes, at most `timeout` seconds."""
    if sys.platform.startswith("linux"):
        from vcam.sources.webcam import wait_for_change

        return wait_for_change(timeout)
    time.sleep(timeout)
    return None


def _make(camera: Camera, output: Output) -> Source:
    from vcam.media import formats
    from vcam.media.clip import ClipSource
    from vcam.sources.still import PORTRAIT, StillSource

    wanted = resolve(camera)
    if camera.source == "auto":
        log.info("camera: auto is %s", wanted)
    if wanted == "demo":
        return StillSource(PORTRAIT, output.width, output.height, output.fps)
    path = Path(wanted).expanduser()
    if path.is_file() or path.suffix.lower() in formats.SUFFIXES:
        if formats.readable(path, SourceError).kind != "picture":
            return ClipSource(path)
        return StillSource(path, output.width, output.height, output.fps, motion=False)
    from vcam.sources.webcam import open_webcam

    return open_webcam(
        wanted,
        camera.width,
        camera.height,
        camera.fps,
        format=camera.format,
        controls=camera.controls,
    )
