"""Cameras and virtual cameras on this machine, and which program holds each."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vcam.foreign_text import plain
from vcam.system import sensors, v4l2

if TYPE_CHECKING:
    from vcam.system.v4l2 import Capabilities, Control

LABEL: Final = "VBG Camera"  # what our virtual camera is called everywhere
# Pixel formats that can be decoded, the best first where a camera offers several of a size.
READABLE: Final = (
    "MJPG", "JPEG", "YUYV", "NV12", "UYVY", "YU12", "YV12", "NV21", "RGB3", "BGR3", "GREY",
)  # fmt: skip
MOST_PIXELS: Final = 8192 * 8192  # a mode above this is a driver's mistake

SYS: Final = Path("/sys/class/video4linux")
LINKS: Final = Path("/dev/v4l")


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
    infrared: bool = False  # shows heat or a lamp's reflection, no colours
    readable: bool = True  # False: everything it sends is of a kind that cannot be decoded
    virtual: bool = False  # fed by a program


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


def list_cameras() -> list[CameraInfo]:
    """Every webcam, the one for a call first: those that see colour, then infrared ones.

    Otherwise in the order the kernel numbers them; never a virtual one.
    """
    if not sys.platform.startswith("linux"):
        return _cameras_elsewhere()
    found = [webcam_at(path) for path in nodes() if not is_virtual(path)]
    return _told_apart([info for info in found if info is not None])


def list_sources() -> list[CameraInfo]:
    """Everything that can be chosen as camera: webcams, then what other programs feed.

    A telephone comes as such a virtual camera; our own one is never among them.
    """
    if not sys.platform.startswith("linux"):
        return list_cameras()
    fed = [fed_at(path) for path in nodes() if is_virtual(path)]
    return [*list_cameras(), *(info for info in fed if info is not None)]


def list_sensors() -> dict[str, int]:
    """Raw sensors of this machine, with their numbers of nodes: none shows a picture."""
    found: dict[str, int] = {}
    for path in nodes():
        known, _ = capabilities_of(path)
        if what := sensor_at(path, known):
            found[what] = found.get(what, 0) + 1
    return found


def list_virtual_cameras() -> list[VirtualCameraInfo]:
    """Every virtual camera; ours first."""
    if not sys.platform.startswith("linux"):
        return []
    found = [_loopback(path) for path in nodes() if is_virtual(path)]
    return sorted((info for info in found if info is not None), key=lambda info: not info.ours)


def holders(path: str | Path) -> list[Holder]:
    """Programs of this user that have `path` open, each once, this one included."""
    target = os.path.realpath(path)
    found = []
    for process in os.listdir("/proc"):
        if process.isdigit() and _holds(process, target):
            name = "unknown program"
            with contextlib.suppress(OSError):
                comm = Path(f"/proc/{process}/comm").read_bytes()
                name = plain(os.fsdecode(comm).strip()) or name
            found.append(Holder(int(process), name))
    return found


def held_by(process: int | str, path: str | Path) -> bool:
    """True if a process of this user, "self" being this one, has `path` open."""
    return _holds(str(process), os.path.realpath(path))


def loopback_openings(*, without: Container[int | None] = ()) -> int:
    """Descriptors of v4l2loopback's devices in processes of this user, less those of some."""
    targets = {str(node) for node in nodes() if (SYS / node.name / "max_openers").exists()}
    count = 0
    for process in os.listdir("/proc"):
        if not process.isdigit() or int(process) in without:
            continue
        with contextlib.suppress(OSError):
            for number in os.listdir(f"/proc/{process}/fd"):
                with contextlib.suppress(OSError):
                    count += os.readlink(f"/proc/{process}/fd/{number}") in targets
    return count


def _holds(process: str, target: str) -> bool:
    with contextlib.suppress(OSError):
        for number in os.listdir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{process}/fd/{number}") == target:
                    return True
    return False


def nodes() -> list[Path]:
    """Paths of all video nodes by number."""
    try:
        names = [entry.name for entry in SYS.iterdir()]
    except OSError:
        return []
    numbered = (re.fullmatch(r"video(\d+)", name) for name in names)
    return [Path("/dev") / m[0] for m in sorted(filter(None, numbered), key=lambda m: int(m[1]))]


def is_virtual(path: Path) -> bool:
    """True for a node that hangs on no bus, as v4l2loopback's do."""
    with contextlib.suppress(OSError):
        return "virtual" in (SYS / path.name).resolve().parts
    return False


def label_at(path: Path) -> str:
    with contextlib.suppress(OSError):
        return plain((SYS / path.name / "name").read_text(errors="replace").strip())
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


def capabilities_of(path: Path) -> tuple[Capabilities | None, str]:
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


def webcam_at(path: Path) -> CameraInfo | None:
    known, problem = capabilities_of(path)
    label = label_at(path)
    if sensor_at(path, known):
        return None
    if known is None:
        # Cannot be asked; the first node of a device is the one with the pictures.
        with contextlib.suppress(OSError):
            if (SYS / path.name / "index").read_text().strip() != "0":
                return None
        return CameraInfo(label, str(path), stable_name(path), problem=problem)
    if not known.captures or known.flags & v4l2.CAP_M2M or not known.flags & v4l2.CAP_STREAMING:
        return None
    formats, modes = formats_of(path), _modes(path)
    if not modes and not formats:
        return None
    return CameraInfo(
        known.card or label,
        str(path),
        stable_name(path),
        modes,
        tuple(control.name for control in list_controls(path)),
        tuple(holders(path)),
        "" if modes else _unreadable(formats),
        sensors.grey_only(formats),
        bool(modes),
    )


def _unreadable(formats: tuple[str, ...]) -> str:
    fine = [name for name in formats if name in READABLE]
    if fine:
        return f"sends {', '.join(fine)} in no size with even sides"
    return f"sends {', '.join(name.strip() for name in formats)} alone, which cannot be decoded"


def sensor_at(path: Path, known: Capabilities | None) -> str:
    """Kind of device that hands out raw data at this node; "" for an ordinary camera."""
    if is_virtual(path):
        return ""
    names = [label_at(path)]
    if known is None:
        return sensors.pipeline(names)
    names += [known.driver, known.card, known.bus]
    return sensors.pipeline(names, formats_of(path), media=bool(known.flags & v4l2.CAP_IO_MC))


def fed_at(path: Path) -> CameraInfo | None:
    """A virtual camera of another program that has a picture to give; None for any other."""
    known, _ = capabilities_of(path)
    if known is None or not known.captures or known.flags & v4l2.CAP_M2M or known.card == LABEL:
        return None
    formats, modes = formats_of(path), _modes(path)
    return CameraInfo(
        known.card or path.name,
        str(path),
        str(path),
        modes,
        holders=tuple(holders(path)),
        problem="" if modes else _unreadable(formats),
        readable=bool(modes),
        virtual=True,
    )


def _told_apart(found: list[CameraInfo]) -> list[CameraInfo]:
    """The cameras in the order in which they are worth choosing, infrared ones marked.

    Nodes of one device are told apart by what they send and what they are called; of two that see
    colour the one with the larger picture goes first, for some infrared sensors deny what they are.
    """
    devices: dict[str, list[CameraInfo]] = {}
    for camera in found:
        devices.setdefault(_parent(Path(camera.path)), []).append(camera)
    ordered: list[CameraInfo] = []
    for nodes in devices.values():
        nodes = [node for node in nodes if node.readable] or nodes[:1]
        grey = [node for node in nodes if node.infrared]
        called = [node for node in nodes if sensors.called_infrared(*_names(node))]
        if grey and len(called) == len(nodes) > len(grey):
            called = grey  # the name is that of the whole device
        marked = [replace(node, infrared=node.infrared or node in called) for node in nodes]
        ordered += sorted(marked, key=lambda node: -max(_areas(node), default=0))
    return sorted(ordered, key=lambda c: (not c.readable, c.infrared, bool(c.problem)))


def _areas(camera: CameraInfo) -> list[int]:
    return [mode.width * mode.height for mode in camera.formats]


def _parent(path: Path) -> str:
    """The device that a node belongs to: the one on the bus, of which it may be one interface."""
    with contextlib.suppress(OSError):
        device = (SYS / path.name / "device").resolve(strict=True)
        return str(device.parent if ":" in device.name else device)
    return str(path)


def _names(camera: CameraInfo) -> tuple[str, ...]:
    """Names of a node: by its driver, by the kernel, by its USB interface."""
    path = Path(camera.path)
    interface = ""
    with contextlib.suppress(OSError):
        interface = (SYS / path.name / "device" / "interface").read_text(errors="replace").strip()
    return camera.name, label_at(path), interface


def list_controls(path: str | Path) -> tuple[Control, ...]:
    """The knobs of a camera with range and value; empty where it cannot be asked."""
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


def formats_of(path: str | Path) -> tuple[str, ...]:
    """Everything a node sends, readable or not."""
    try:
        fd = v4l2.open_node(path)
    except OSError:
        return ()
    try:
        return tuple(dict.fromkeys(v4l2.pixel_formats(fd)))
    except OSError:
        return ()
    finally:
        os.close(fd)


def _modes(path: str | Path) -> tuple[Mode, ...]:
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
    found: dict[tuple[str, int, int], Mode] = {}
    for name in v4l2.pixel_formats(fd):
        if name not in READABLE:
            continue
        for size in v4l2.frame_sizes(fd, name):
            for w, h in _sizes(*size):
                rates = tuple(v4l2.frame_rates(fd, name, w, h))
                found.setdefault((name, w, h), Mode(name, w, h, rates))
    return list(found.values())


def _sizes(
    low_w: int, high_w: int, step_w: int, low_h: int, high_h: int, step_h: int
) -> list[tuple[int, int]]:
    """The sizes of a range that a frame may have, even and within reason; 0x0 is none."""

    def fits(w: int, h: int) -> bool:
        inside = low_w <= w <= high_w and low_h <= h <= high_h
        on_step = (w - low_w) % max(step_w, 1) == 0 and (h - low_h) % max(step_h, 1) == 0
        even = w > 1 and h > 1 and w % 2 == 0 and h % 2 == 0
        return inside and on_step and even and w * h <= MOST_PIXELS

    if (low_w, low_h) == (high_w, high_h):
        return [(low_w, low_h)] if fits(low_w, low_h) else []
    usual = [size for size in _USUAL_SIZES if fits(*size)]
    return usual or [size for size in ((high_w, high_h), (low_w, low_h)) if fits(*size)][:1]


def _loopback(path: Path) -> VirtualCameraInfo | None:
    label = label_at(path)
    known, problem = capabilities_of(path)
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
        CameraInfo(
            plain(camera.name), str(camera.index % 100), camera.path or str(camera.index % 100)
        )
        for camera in enumerate_cameras(backend)
        if not re.search(r"obs|virtual", camera.name, re.IGNORECASE)
    ]
