"""The knobs of a webcam: listed, turned now, and kept for the camera they belong to."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vcam.errors import SourceError, VcamError
from vcam.system import devices, v4l2
from vcam.system.cameras import find_camera

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vcam.system.devices import CameraInfo

log = logging.getLogger(__name__)

Controls = dict[str, "int | dict[str, int]"]  # by name, or by name under a camera's name


def controls_for(camera: CameraInfo, wanted: Controls) -> dict[str, int]:
    """Values of `[camera] controls` for this camera: those for all, then those for it alone."""
    found = {name: value for name, value in wanted.items() if isinstance(value, int)}
    for name, own in wanted.items():
        if isinstance(own, dict) and name in (camera.name, Path(camera.stable).name):
            found |= own
    return found


def turn_controls(camera: CameraInfo, wanted: Mapping[str, object]) -> dict[str, int]:
    """Turn a camera's knobs, whether it is open or not; return what they were turned to.

    Raises:
        SourceError: there is no such control or a value is out of its range, told before any is
            turned; or the driver refuses one.
    """
    known = {control.name: control for control in devices.list_controls(camera.path)}
    values: dict[str, int] = {}
    for name, value in wanted.items():
        control = known.get(name)
        if control is None:
            names = ", ".join(known) or "none"
            raise SourceError(
                f"{camera.name} has no control {name!r}; it has {names}",
                hint="Run `vcam devices` to list controls with their ranges.",
            )
        low, high = control.minimum, control.maximum
        if type(value) is not int or not low <= value <= high:
            raise SourceError(
                f"{name} is {value!r}, expected a number from {low} to {high}",
                hint=f"The camera comes with {control.default}.",
            )
        values[name] = value
    fd = v4l2.open_node(camera.path)
    try:
        for name in sorted(values, key=manual_last_key):
            v4l2.set_control(fd, known[name].id, values[name])
    except OSError as error:
        raise SourceError(
            f"{camera.name}: {name} cannot be set: {error.strerror}",
            hint="Set its automatic off first: `vcam devices` lists that control too.",
        ) from error
    finally:
        os.close(fd)
    return values


def apply_controls(path: str, wanted: Controls) -> None:
    """Turn the knobs of an open camera as changed settings say; what cannot be is told and left."""
    if not sys.platform.startswith("linux"):
        return
    try:
        camera = find_camera(path)
        turn_controls(camera, controls_for(camera, wanted))
    except VcamError as error:
        log.warning("%s", error)


def manual_last_key(name: str) -> bool:
    """Sorts controls: automatic exposure or white balance goes before its manual value."""
    return "auto" not in name


def kept_controls(camera: CameraInfo, values: dict[str, int], before: Controls) -> Controls:
    """`[camera] controls` with `values` for this camera alone."""
    twins = [other for other in devices.list_cameras() if other.name == camera.name]
    key = camera.name if len(twins) < 2 else Path(camera.stable).name
    own = before.get(key)
    return before | {key: (own if isinstance(own, dict) else {}) | values}
