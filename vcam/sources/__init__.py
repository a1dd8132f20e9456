"""Which source a `[camera] source` names, opened anew each time it is asked for."""

from __future__ import annotations

import difflib
import itertools
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vcam.errors import BackgroundError, SourceError
from vcam.media import formats
from vcam.settings.choice import path_of
from vcam.sources.fill import Filling
from vcam.system import patience
from vcam.system.cameras import find_camera
from vcam.system.devices import list_cameras
from vcam.system.paths import expanded

if TYPE_CHECKING:
    from vcam.settings.config import Camera, Config, LookSettings, Output
    from vcam.sources.base import Source

log = logging.getLogger(__name__)


def source_opener(camera: Camera, output: Output) -> Callable[[], Source]:
    """Return what makes the source that `camera` asks for; nothing is opened here."""

    def opened() -> Source:
        source = _make(camera, output)
        if not camera.fill:
            return source
        return Filling(source, output.width, output.height)

    return opened


MORE: Final = 1.5  # times the size, asked of a webcam whose picture is cut to a part
MOST: Final = (1920, 1080)  # pixels that are asked for then, unless the settings ask for more


def opener_of(config: Config) -> Callable[[], Source]:
    """Return what makes the source that the settings ask for; nothing is opened here."""
    return source_opener(asked_size(config.camera, config.look), config.output)


def asked_size(camera: Camera, look: LookSettings) -> Camera:
    """`camera` as the webcam is asked: for a larger picture where only a part of it is shown."""
    if look.framing == "off":
        return camera
    if camera.width * MORE > MOST[0] or camera.height * MORE > MOST[1]:
        return camera
    width, height = (round(side * MORE / 2) * 2 for side in (camera.width, camera.height))
    return camera.model_copy(update={"width": width, "height": height})


def resolve(camera: Camera) -> str:
    """Say what `source = "auto"` means right now: a camera's path, or "demo".

    Raises:
        VcamError: a camera that was named does not exist.
    """
    if camera.source != "auto":
        return camera.source
    cameras = [found for found in list_cameras() if found.readable]
    if cameras and cameras[0].infrared:
        log.warning("only infrared cameras are connected")
    return cameras[0].path if cameras else "demo"


def check_source(camera: Camera, output: Output) -> None:
    """Look once whether what was asked for is there; a webcam is found and not opened.

    Raises:
        SourceError: it is not, or cannot be read; the message says what there is instead.
    """
    wanted = camera.source
    if wanted in ("auto", "demo"):
        return
    if wanted.startswith("/dev/") or not _like_a_file(wanted):
        _check(camera, output)
    else:
        about = expanded(path_of(wanted))
        patience.within(about, lambda: _check(camera, output), fault=SourceError)


def _check(camera: Camera, output: Output) -> None:
    wanted = camera.source
    path = expanded(path_of(wanted))
    if path.is_dir() or not wanted.strip():
        raise SourceError(
            f"camera source {wanted!r} is {'a folder' if wanted.strip() else 'empty'}, "
            "expected a camera, a clip or a picture",
            hint=_CHOOSE,
        )
    if not wanted.startswith("/dev/") and _like_a_file(wanted) and not path.exists():
        raise SourceError(f"camera source {wanted!r} does not exist{_near(path)}", hint=_CHOOSE)
    source = _make(camera, output)
    selector = getattr(source, "selector", None)
    if selector is not None:
        if sys.platform.startswith("linux") or not selector.isdigit():
            find_camera(selector)
        return
    try:
        with source:
            source.read(1.0)
    except BackgroundError as error:
        raise SourceError(error.message, hint=error.hint) from error


_CHOOSE = "Run `vcam devices` to list cameras, or give a clip, a picture or demo."


def _like_a_file(wanted: str) -> bool:
    """True if a person who typed this meant a file."""
    return wanted.startswith(("/", "./", "../", "~", "file://")) or bool(
        re.search(r"\.[A-Za-z0-9]{2,4}$", wanted)
    )


def _near(path: Path) -> str:
    """The file beside it that has almost this name, as a question."""
    try:
        names = [entry.name for entry in itertools.islice(os.scandir(path.parent), 2000)]
    except OSError:
        return f": there is no folder {str(path.parent)!r}"
    close = difflib.get_close_matches(path.name, names, 1, 0.7)
    return f"; did you mean {close[0]!r}?" if close else ""


def wait_for_camera(timeout: float) -> object:
    """Sleep until a device comes or goes, at most `timeout` seconds."""
    if sys.platform.startswith("linux"):
        from vcam.sources.webcam import wait_for_change

        return wait_for_change(timeout)
    time.sleep(timeout)
    return None


def _make(camera: Camera, output: Output) -> Source:
    from vcam.media.clip import ClipSource
    from vcam.sources.still import PORTRAIT, StillSource

    wanted = resolve(camera)
    if camera.source == "auto":
        log.info("camera: auto is %s", wanted)
    if wanted == "demo":
        return StillSource(PORTRAIT, output.width, output.height, output.fps)
    path = expanded(path_of(wanted))
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
