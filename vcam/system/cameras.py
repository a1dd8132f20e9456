"""Which camera a person means: by path, number, name or a part of one."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vcam.errors import SourceError
from vcam.foreign_text import plain
from vcam.system import devices, sensors
from vcam.system.devices import LABEL, READABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from vcam.system.devices import CameraInfo


def find_camera(selector: str) -> CameraInfo:
    """The webcam that a path, a stable name, a label or a part of one names.

    Raises:
        SourceError: there is none, or it is our own virtual camera.
    """
    if selector.startswith("/"):
        return _camera_at(selector)
    cameras = devices.list_sources()
    wanted = plain(selector).casefold()  # names were made harmless when they were read
    node = f"video{wanted}" if wanted.isdigit() else wanted
    ways: tuple[Callable[[CameraInfo], bool], ...] = (
        lambda c: c.name.casefold() == wanted,
        lambda c: Path(c.stable).name.casefold() == wanted,
        lambda c: Path(c.path).name == node,
        lambda c: not wanted.isdigit() and len(wanted) > 1 and wanted in c.name.casefold(),
    )
    for fits in ways:
        for camera in cameras:
            if fits(camera):
                return _usable(camera)
    for path in devices.nodes():  # one that is no source: what it is instead is worth telling
        if path.name == node:
            return _camera_at(str(path))
    if wanted and wanted in LABEL.casefold():
        raise _ourselves(selector)
    raise SourceError(
        f"there is no camera {selector!r}; {_near(selector, cameras)}",
        hint="Run `vcam devices` to list cameras, or check the cable.",
        card="camera unplugged",
    )


def _near(selector: str, cameras: list[CameraInfo]) -> str:
    """Sentence that names the cameras that are connected, and the one that may have been meant."""
    names = {word: word for word in ("auto", "demo")}
    names |= {camera.name.casefold(): camera.name for camera in cameras}
    close = difflib.get_close_matches(plain(selector).strip().casefold(), names, 1)
    told = f"connected: {', '.join(repr(camera.name) for camera in cameras) or 'none'}"
    return told + (f"; did you mean {names[close[0]]!r}?" if close else "")


def _ourselves(selector: str) -> SourceError:
    return SourceError(
        f"{selector!r} is {LABEL} itself, expected a webcam",
        hint='Set camera.source = "auto" or a path that `vcam devices` lists.',
        card="the camera chosen is this one",
    )


def _usable(camera: CameraInfo) -> CameraInfo:
    if not camera.readable:
        raise SourceError(
            f"{camera.name} {camera.problem}",
            hint=f"Choose one that sends one of {', '.join(READABLE)}: `vcam devices` lists them.",
            card="camera sends an unknown format",
        )
    return camera


def _camera_at(selector: str) -> CameraInfo:
    path = os.path.realpath(selector)
    if not os.path.exists(path):
        raise SourceError(
            f"camera {selector!r} is not connected; {_near(selector, devices.list_sources())}",
            hint="Check the cable, or run `vcam devices` to list cameras.",
            card="camera unplugged",
        )
    if os.path.isdir(path):
        raise SourceError(
            f"{selector!r} is a folder, expected a camera, a clip or a picture",
            hint="Run `vcam devices` to list cameras.",
            card="no camera",
        )
    known, _ = devices.capabilities_of(Path(path))
    if what := devices.sensor_at(Path(path), known):
        raise SourceError(
            f"{selector!r} is a sensor behind {what} that sends raw data, expected a webcam",
            hint=sensors.THROUGH_LIBCAMERA,
            card="camera sends raw data",
        )
    if devices.is_virtual(Path(path)):
        if (known.card if known else devices.label_at(Path(path))) == LABEL:
            raise _ourselves(selector)
        # The picture of another virtual camera, such as a telephone's, is a fine source.
        info = devices.fed_at(Path(path))
        if info is None:
            raise SourceError(
                f"{selector!r} is a virtual camera that no program feeds",
                hint="Start the program it belongs to, such as DroidCam, scrcpy or OBS.",
                card="no program feeds the camera",
            )
        return _usable(info)
    info = devices.webcam_at(Path(path))
    if info is None:
        raise SourceError(
            f"{selector!r} is no camera that sends {', '.join(READABLE)}",
            hint="Run `vcam devices` to list cameras.",
            card="no camera",
        )
    return _usable(info)
