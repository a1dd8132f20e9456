"""Exposure, white balance, zoom and the like of the camera in use, for the settings page."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from vcam.errors import SourceError, VcamError
from vcam.settings.live import Settings
from vcam.sources import resolve
from vcam.system.cameras import find_camera
from vcam.system.controls import kept_controls, turn_controls
from vcam.system.devices import CameraInfo, list_controls
from vcam.system.paths import expanded
from vcam.words import mark


def look(settings: Settings) -> dict[str, Any]:
    """The camera's name and controls; without any, `reason` says why."""
    try:
        camera = _in_use(settings)
    except VcamError as error:
        return {"camera": "", "controls": [], "reason": f"{error.message}."}
    controls = [asdict(control) for control in list_controls(camera.path)]
    reason = (
        "" if controls else mark(f"{camera.name} has no controls, or cannot be asked right now.")
    )
    return {"camera": camera.name, "controls": controls, "reason": reason}


def turn(settings: Settings, wanted: Mapping[str, object]) -> dict[str, Any]:
    """Set controls of the camera in use now, and keep them for it; what `look` says then.

    Raises:
        VcamError: there is no camera or control, or a value is out of its range.
    """
    camera = _in_use(settings)
    turned = turn_controls(camera, wanted)
    kept = kept_controls(camera, turned, settings.current.camera.controls)
    settings.change({"camera": {"controls": kept}})
    return look(settings)


def _in_use(settings: Settings) -> CameraInfo:
    if not sys.platform.startswith("linux"):
        raise SourceError(
            "A camera's controls can be set on Linux alone",
            hint="Use the program that came with the camera.",
        )
    source = resolve(settings.current.camera)
    if source == "demo" or (not source.startswith("/dev/") and expanded(source).is_file()):
        raise SourceError(
            f"There is no webcam in use: {source!r} stands in for one",
            hint="Choose a webcam in [camera] source.",
        )
    return find_camera(source)
