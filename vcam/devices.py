"""Cameras and virtual cameras on this machine, and which program holds each."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from vcam.errors import SourceError, VcamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vcam.v4l2 import Capabilities, Control

log = logging.getLogger(__name__)

LABEL: Final = "VBG Camera"  # what our virtual camera is called everywhere
READABLE: Final = ("MJPG", "JPEG", "YUYV", "NV12")  # pixel formats that can be decoded

SYS: Final = Path("/sys/class/video4linux")
LINKS: Final = Path("/dev/v4l")


Controls = dict[str, "int | dict[str, int]"]  # by name, or by name under a camera's name


@dataclass(frozen=True, slots=True)
class Mode:
    """One way a camera can send pictures; `rates` is empty where it does not say."""

    format: str
    width: int
    height: int
    rates: tuple[float, ...] = ()

    @property
    def fps(self) -> float:
        return self.rates[0] if self.rates else 0.0


@dataclass(frozen=True, slots=True)
class Holder:
    """A program that has a device open."""

    pid: int
    name: str


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """A webcam. `stable` still names it when the kernel hands out other numbers."""

    name: str
    path: str
    stable: str
    formats: tuple[Mode, ...] = ()
    controls: tuple[str, ...] = ()
    holders: tuple[Holder, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class VirtualCameraInfo:
    """A v4l2loopback device, ours or another's; `ready`: a writer feeds it, so programs list it."""

    name: str
    path: str
    ours: bool
    ready: bool
    width: int = 0
    height: int = 0
    holders: tuple[Holder, ...] = ()
    problem: str = ""


Listed = TypeVar("Listed", CameraInfo, VirtualCameraInfo)


def list_cameras() -> list[CameraInfo]:
    """Every webcam, in the order the kernel numbers them; never a virtual one."""
    if not sys.platform.startswith("linux"):
        return _cameras_elsewhere()
    found = []
    for path in _nodes():
        if not _virtual(path) and (info := _webcam(path)) is not None:
            found.append(info)
    return found


def list_virtual_cameras() -> list[VirtualCameraInfo]:
    """Every virtual camera; ours first."""
    if not sys.platform.startswith("linux"):
        return []
    found = [_loopback(path) for path in _nodes() if _virtual(path)]
    return sorted((info for info in found if info is not None), key=lambda info: not info.ours)


def find_camera(selector: str) -> CameraInfo:
    """The webcam that a path, a stable name, a label or a part of one names.

    Raises:
        SourceError: there is none, or it is our own virtual camera.
    """
    if selector.startswith("/"):
        return _camera_at(selector)
    cameras = list_cameras()
    wanted = selector.casefold()
    ways: tuple[Callable[[CameraInfo], bool], ...] = (
        lambda c: c.name.casefold() == wanted,
        lambda c: Path(c.stable).name.casefold() == wanted,
        lambda c: wanted in c.name.casefold(),
    )
    for fits in ways:
        for camera in cameras:
            if fits(camera):
                return camera
    known = ", ".join(repr(camera.name) for camera in cameras) or "none"
    raise SourceError(
        f"there is no camera {selector!r}; connected: {known}",
        hint="Run `vcam devices` to list cameras, or check the cable.",
    )


def _camera_at(selector: str) -> CameraInfo:
    path = os.path.realpath(selector)
    if not os.path.exists(path):
        raise SourceError(
            f"camera {selector!r} is not connected",
            hint="Check the cable, or run `vcam devices` to list cameras.",
        )
    if _virtual(Path(path)):
        info = _loopback(Path(path))
        if info is not None and info.ours:
            raise SourceError(
                f"{selector!r} is {LABEL} itself, expected a webcam",
                hint='Set camera.source = "auto" or a path that `vcam devices` lists.',
            )
        # The picture of another virtual camera, such as a telephone's, is a fine source.
        name = info.name if info is not None else Path(path).name
        return CameraInfo(name, path, path, _modes(path))
    info_there = _webcam(Path(path))
    if info_there is None:
        raise SourceError(
            f"{selector!r} is no camera that sends {', '.join(READABLE)}",
            hint="Run `vcam devices` to list cameras.",
        )
    return info_there


def holders(path: str | Path) -> list[Holder]:
    """Programs of this user that have `path` open, each once, this one included."""
    target = os.path.realpath(path)
    found = []
    for process in os.listdir("/proc"):
        if process.isdigit() and _holds(process, target):
            name = "unknown program"
            with contextlib.suppress(OSError):
                name = Path(f"/proc/{process}/comm").read_text().strip() or name
            found.append(Holder(int(process), name))
    return found


def _holds(process: str, target: str) -> bool:
    with contextlib.suppress(OSError):
        for number in os.listdir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{process}/fd/{number}") == target:
                    return True
    return False


def _nodes() -> list[Path]:
    """Paths of all video nodes by number."""
    try:
        names = [entry.name for entry in SYS.iterdir()]
    except OSError:
        return []
    numbered = (re.fullmatch(r"video(\d+)", name) for name in names)
    return [Path("/dev") / m[0] for m in sorted(filter(None, numbered), key=lambda m: int(m[1]))]


def _virtual(path: Path) -> bool:
    """True for a node that hangs on no bus, as v4l2loopback's do."""
    with contextlib.suppress(OSError):
        return "virtual" in (SYS / path.name).resolve().parts
    return False


def _label(path: Path) -> str:
    with contextlib.suppress(OSError):
        return (SYS / path.name / "name").read_text(errors="replace").strip()
    return path.name


def stable_name(path: str | Path) -> str:
    """The link under /dev/v4l that keeps naming this device; its path where there is none."""
    target = os.path.realpath(path)
    for folder in ("by-id", "by-path"):
        with contextlib.suppress(OSError):
            for link in sorted((LINKS / folder).iterdir()):
                if os.path.realpath(link) == target:
                    return str(link)
    return str(path)


def _capabilities(path: Path) -> tuple[Capabilities | None, str]:
    from vcam import v4l2

    try:
        fd = v4l2.open_node(path)
    except OSError as error:
        return None, error.strerror or str(error)
    try:
        return v4l2.capabilities(fd), ""
    except OSError as error:
        return None, error.strerror or str(error)
    finally:
        os.close(fd)


def _webcam(path: Path) -> CameraInfo | None:
    from vcam import v4l2

    known, problem = _capabilities(path)
    label = _label(path)
    if known is None:
        # Cannot be asked; the first node of a device is the one with the pictures.
        with contextlib.suppress(OSError):
            if (SYS / path.name / "index").read_text().strip() != "0":
                return None
        return CameraInfo(label, str(path), stable_name(path), problem=problem)
    if not known.captures or known.flags & v4l2.CAP_M2M or not known.flags & v4l2.CAP_STREAMING:
        return None
    modes = _modes(path)
    if not modes:
        return None
    return CameraInfo(
        known.card or label,
        str(path),
        stable_name(path),
        modes,
        tuple(control.name for control in list_controls(path)),
        tuple(holders(path)),
    )


def list_controls(path: str | Path) -> tuple[Control, ...]:
    """The knobs of a camera with range and value; empty where it cannot be asked."""
    from vcam import v4l2

    try:
        fd = v4l2.open_node(path)
    except OSError:
        return ()
    try:
        return tuple(v4l2.controls(fd))
    except OSError:
        return ()
    finally:
        os.close(fd)


def controls_for(camera: CameraInfo, wanted: Controls) -> dict[str, int]:
    """What `[camera] controls` asks of this camera: what is for all, then what is for it alone."""
    found = {name: value for name, value in wanted.items() if isinstance(value, int)}
    for name, own in wanted.items():
        if isinstance(own, dict) and name in (camera.name, Path(camera.stable).name):
            found |= own
    return found


def set_controls(wishes: list[str], selector: str | None) -> int:
    """`vcam devices --set NAME=VALUE`: turn the camera's knobs now and keep them; the exit code.

    Raises:
        SourceError: there is no such camera or control, or a value is out of its range.
    """
    camera = find_camera(selector) if selector else next(iter(list_cameras()), None)
    if camera is None:
        raise SourceError("no camera is connected", hint="Check the cable.")
    values: dict[str, int | str] = {}
    for wish in wishes:
        name, _, text = wish.partition("=")
        values[name] = int(text) if re.fullmatch(r"-?\d+", text) else text
    turned = turn_controls(camera, values)
    _keep(camera, turned)
    print(f"{camera.name}: {', '.join(f'{name} = {value}' for name, value in turned.items())}")
    return 0


def turn_controls(camera: CameraInfo, wanted: Mapping[str, object]) -> dict[str, int]:
    """Turn a camera's knobs, whether it is open or not; return what they were turned to.

    Raises:
        SourceError: there is no such control or a value is out of its range, told before any is
            turned; or the driver refuses one.
    """
    from vcam import v4l2

    known = {control.name: control for control in list_controls(camera.path)}
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
        for name in sorted(values, key=automatic_first):
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


def automatic_first(name: str) -> bool:
    """Sorts controls: automatic exposure or white balance goes before its manual value."""
    return "auto" not in name


def _keep(camera: CameraInfo, values: dict[str, int]) -> None:
    """Write `values` into the settings; a daemon that runs does it itself."""
    from vcam.config import load, user_path
    from vcam.control.client import Client
    from vcam.errors import DaemonError
    from vcam.settings import Settings

    config = load()
    changes = {"camera": {"controls": kept_controls(camera, values, config.camera.controls)}}
    try:
        Client.connect().change(changes)
    except DaemonError:
        with Settings(config).kept_in(user_path()) as settings:
            settings.change(changes)
            settings.flush()


def kept_controls(camera: CameraInfo, values: dict[str, int], before: Controls) -> Controls:
    """`[camera] controls` with `values` for this camera alone."""
    twins = [other for other in list_cameras() if other.name == camera.name]
    key = camera.name if len(twins) < 2 else Path(camera.stable).name
    own = before.get(key)
    return before | {key: (own if isinstance(own, dict) else {}) | values}


def _modes(path: str | Path) -> tuple[Mode, ...]:
    from vcam import v4l2

    try:
        fd = v4l2.open_node(path)
    except OSError:
        return ()
    try:
        return tuple(modes_of(fd))
    except OSError:
        return ()
    finally:
        os.close(fd)


# Where a camera offers any size in a range, these are the ones worth choosing from.
_USUAL_SIZES: Final = (
    (320, 240), (640, 360), (640, 480), (800, 600), (960, 540), (1280, 720), (1280, 960),
    (1920, 1080),
)  # fmt: skip


def modes_of(fd: int) -> list[Mode]:
    """Every readable way an open camera can send pictures."""
    from vcam import v4l2

    found: dict[tuple[str, int, int], Mode] = {}
    for name in v4l2.pixel_formats(fd):
        if name not in READABLE:
            continue
        for low_w, high_w, step_w, low_h, high_h, step_h in v4l2.frame_sizes(fd, name):
            sizes = [(low_w, low_h)] if (low_w, low_h) == (high_w, high_h) else _USUAL_SIZES
            for w, h in sizes:
                inside = low_w <= w <= high_w and low_h <= h <= high_h
                on_step = (w - low_w) % max(step_w, 1) == 0 and (h - low_h) % max(step_h, 1) == 0
                if inside and on_step and w % 2 == 0 and h % 2 == 0:
                    rates = tuple(v4l2.frame_rates(fd, name, w, h))
                    found.setdefault((name, w, h), Mode(name, w, h, rates))
    return list(found.values())


def _loopback(path: Path) -> VirtualCameraInfo | None:
    label = _label(path)
    known, problem = _capabilities(path)
    if known is None:
        return VirtualCameraInfo(label, str(path), label == LABEL, False, problem=problem)
    if not known.loopback:
        return None
    if not known.captures and not known.outputs:
        problem = "stuck after a program that fed it ended"
    width = height = 0
    with contextlib.suppress(OSError):
        size = re.search(r"(\d+)x(\d+)", (SYS / path.name / "format").read_text())
        if size:
            width, height = int(size[1]), int(size[2])
    return VirtualCameraInfo(
        known.card,
        str(path),
        known.card == LABEL,
        known.captures,
        width,
        height,
        tuple(holders(path)),
        problem,
    )


def _cameras_elsewhere() -> list[CameraInfo]:
    """Windows and macOS: by name where cv2-enumerate-cameras is installed, else the first one."""
    try:
        from cv2_enumerate_cameras import enumerate_cameras  # type: ignore[import-not-found]
    except ImportError:
        return [CameraInfo("Camera 0", "0", "0")]
    import cv2

    backend = cv2.CAP_DSHOW if sys.platform == "win32" else cv2.CAP_AVFOUNDATION
    return [
        CameraInfo(camera.name, str(camera.index % 100), camera.path or str(camera.index % 100))
        for camera in enumerate_cameras(backend)
        if not re.search(r"obs|virtual", camera.name, re.IGNORECASE)
    ]


def run(as_json: bool) -> int:
    """`vcam devices`: print what there is and who holds it; the exit code."""
    ours = _ours()
    cameras = [_also_held(camera, ours) for camera in list_cameras()]
    virtual = [_also_held(camera, ours) for camera in list_virtual_cameras()]
    if as_json:
        answer = {
            "cameras": [asdict(camera) for camera in cameras],
            "virtual": [asdict(camera) for camera in virtual],
        }
        print(json.dumps(answer, indent=2))
        return 0
    print("Cameras")
    for camera in cameras:
        print(f"  {camera.name}  {camera.path}{_held(camera.holders)}")
        if camera.stable != camera.path:
            print(f"    {camera.stable}")
        for line in _summary(camera.formats):
            print(f"    {line}")
        for control in list_controls(camera.path):
            print(
                f"    {control.name} = {control.value}"
                f" ({control.minimum} to {control.maximum}, {control.default} at first)"
            )
        if camera.problem:
            print(f"    cannot be opened: {camera.problem}")
    if not cameras:
        print("  none; the demo picture stands in for one")
    print("Virtual cameras")
    for device in virtual:
        size = f" {device.width}x{device.height}" if device.width else ""
        state = "fed, programs list it" if device.ready else "not fed, programs do not list it"
        print(f"  {device.name}  {device.path}{size}  {state}{_held(device.holders)}")
        if device.problem:
            print(f"    {device.problem}")
    if not virtual:
        print("  none; `vcam doctor` says how to get one")
    return 0


def _ours() -> dict[str, set[Holder]]:
    """Which device is held by whom as a daemon that runs sees it: it lets nobody look at itself."""
    from vcam.control.client import Client

    found: dict[str, set[Holder]] = {}
    with contextlib.suppress(VcamError):
        answer = Client.connect().devices()
        for camera in (*answer["cameras"], *answer["virtual"]):
            found[camera["path"]] = {Holder(**holder) for holder in camera["holders"]}
    return found


def _also_held(camera: Listed, ours: Mapping[str, set[Holder]]) -> Listed:
    holders = {*camera.holders, *ours.get(camera.path, ())}
    return replace(camera, holders=tuple(sorted(holders, key=lambda holder: holder.pid)))


def _held(who: tuple[Holder, ...]) -> str:
    names = ", ".join(f"{h.name} ({h.pid})" for h in who)
    return f"  in use by {names}" if names else ""


def _summary(modes: tuple[Mode, ...]) -> list[str]:
    """One line a format: its sizes with the fastest rate."""
    by_format: dict[str, list[str]] = {}
    for mode in modes:
        rate = f"@{mode.fps:g}" if mode.rates else ""
        by_format.setdefault(mode.format, []).append(f"{mode.width}x{mode.height}{rate}")
    return [f"{name}: {' '.join(sizes)}" for name, sizes in by_format.items()]
