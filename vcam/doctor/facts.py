"""Facts about this machine that the doctor judges, gathered without changing anything.

Every fact has a value that means "could not be found out", which no check complains about.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmentation.engines import devices, nvidia
from vcam.client import Client
from vcam.errors import ConfigError, VcamError
from vcam.foreign_text import plain
from vcam.settings import config
from vcam.system import sensors, systemd, v4l2
from vcam.system.devices import LABEL, Holder, formats_of
from vcam.system.paths import cache_dir

if TYPE_CHECKING:
    from vcam.system.v4l2 import Capabilities

Run = Callable[[list[str]], "str | None"]


@dataclass(frozen=True)
class Node:
    """A video node, real or virtual."""

    path: str
    name: str  # the label programs show
    virtual: bool = False
    allowed: bool = True  # this user may read and write it
    captures: bool | None = None
    outputs: bool | None = None
    exclusive: bool | None = None  # v4l2loopback's exclusive_caps
    size: tuple[int, int] | None = None
    holders: tuple[Holder, ...] = ()
    raw: str = ""  # what hands out raw sensor data at this node


@dataclass(frozen=True)
class Surroundings:
    """The machine, the desktop, our daemon and its settings at one moment."""

    system: str = "linux"
    distribution: str = ""  # ID of /etc/os-release, and what it resembles
    user: str = ""
    kernel: str = ""
    module_kernels: frozenset[str] = frozenset()  # kernels v4l2loopback was built for
    module_loaded: bool = False
    module_version: str = ""
    module_at_boot: bool = False
    module_options: tuple[str, ...] = ()  # files of modprobe.d that set v4l2loopback's options
    secure_boot: bool = False
    module_key_enrolled: bool | None = None
    module_key: str = "/var/lib/dkms/mok.pub"
    nodes: tuple[Node, ...] = ()
    in_video_group: bool = True  # of this session
    added_to_video_group: bool = True  # in the user database; counts from the next login
    status: Mapping[str, Any] | None = None  # of the running daemon
    config: Mapping[str, Mapping[str, Any]] | None = None
    config_problems: tuple[str, ...] = ()
    unit_file: str = ""
    unit_command_exists: bool = True
    unit_failed: bool = False
    pipewire: bool | None = None
    session_manager: bool | None = None  # it links programs with PipeWire's cameras
    portal: bool | None = None
    camera_refused_to: tuple[str, ...] = ()  # programs to which the desktop's portal says no
    browsers: frozenset[str] = frozenset()
    flatpaks_without_camera: tuple[str, ...] = ()
    snaps_without_camera: tuple[str, ...] = ()
    graphical: bool = False
    desktop: str = ""
    tray: bool | None = None
    gpu: str = ""  # an NVIDIA GPU that could do the work
    gpu_problem: str = ""  # why it cannot, as half a sentence
    gpu_remedy: str = ""  # what to do about that
    devices: tuple[str, ...] = ()  # of OpenVINO besides the processor, each with what became of it
    obs: bool | None = None  # Windows and macOS: OBS' virtual camera is there
    installer: str = field(default_factory=lambda: str(installer()))

    @property
    def loopbacks(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.virtual)

    @property
    def ours(self) -> tuple[Node, ...]:
        return tuple(node for node in self.loopbacks if node.name == LABEL)

    @property
    def webcams(self) -> tuple[Node, ...]:
        return tuple(
            node
            for node in self.nodes
            if not node.virtual and not node.raw and node.captures is not False
        )

    @property
    def sensors(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(node.raw for node in self.nodes if node.raw))

    @property
    def sinks(self) -> frozenset[str]:
        """Kinds of virtual cameras that the running daemon has open."""
        open_now = (self.status or {}).get("sinks") or ()
        return frozenset(str(s["kind"]) for s in open_now if s.get("kind") not in (None, "file"))

    def setting(self, section: str, key: str) -> Any:
        """A setting's value, or None while the settings cannot be read."""
        return ((self.config or {}).get(section) or {}).get(key)


def installer(system: str = sys.platform) -> Path:
    """The set-up script for this system: beside the packages, or inside the wheel."""
    name = {"win32": "windows.ps1", "darwin": "macos.sh"}.get(system, "linux.sh")
    here = Path(__file__).resolve().parent.parent
    places = (here / "install" / name, here.parent / "install" / name)
    return next((place for place in places if place.exists()), Path("install") / name)


def look(
    root: Path = Path("/"),
    environ: Mapping[str, str] | None = None,
    run: Run | None = None,
) -> Surroundings:
    """Gather the facts of this machine; tests point `root` elsewhere and answer for programs."""
    environ = os.environ if environ is None else environ
    run = run or _run
    facts: dict[str, Any] = {"system": sys.platform, "user": environ.get("USER", "")}
    facts |= _settings() | _daemon()
    facts |= {"gpu": nvidia.present(), "gpu_problem": nvidia.why_not()}
    facts["gpu_remedy"] = nvidia.remedy()
    measured = devices.report(cache_dir())
    facts["devices"] = tuple(
        f"{name} ({device}): {devices.verdict(measured, device)}"
        for device, name in devices.listed().items()
    )
    if sys.platform == "linux":
        facts |= _module(root, run) | _video_group(environ)
        facts["nodes"] = tuple(_nodes(root))
        facts |= _unit(environ, run) | _desktop(root, environ, run)
    else:
        facts["obs"] = obs_camera(sys.platform)
    return Surroundings(**facts)


def _run(command: list[str]) -> str | None:
    """A program's output, or None where it is missing, fails or hangs."""
    if not shutil.which(command[0]):
        return None
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
        if done.returncode == 0:
            return done.stdout
    return None


def _settings() -> dict[str, Any]:
    try:
        return {"config": config.load().model_dump()}
    except ConfigError as error:
        return {"config_problems": error.problems or (error.message,)}


def _daemon() -> dict[str, Any]:
    try:
        return {"status": dict(Client.connect().status())}
    except (ImportError, VcamError, OSError):
        return {"status": None}


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _module(root: Path, run: Run) -> dict[str, Any]:
    release = _read(root / "proc/sys/kernel/osrelease") or platform.release()
    names = _read(root / "etc/os-release")
    words = re.findall(r'^(?:ID|ID_LIKE)="?([^"\n]*)', names, re.M)
    # A merged /usr makes /lib a link; a chroot or a test may have either.
    libraries = [root / "lib/modules", root / "usr/lib/modules"]
    kernels = {
        found.relative_to(directory).parts[0]
        for directory in libraries
        if directory.is_dir()
        for found in directory.glob("*/**/v4l2loopback.ko*")
    }
    loaded = root / "sys/module/v4l2loopback"
    key = root / "var/lib/dkms/mok.pub"
    enrolled: bool | None = None
    secure = _secure_boot(root)
    if secure and key.exists():
        # It fails (None) when the key is unknown; without mokutil nothing can be said.
        known = run(["mokutil", "--test-key", str(key)])
        enrolled = known is not None and "already enrolled" in known
        enrolled = enrolled if run(["mokutil", "--version"]) is not None else None
    return {
        "distribution": " ".join(words),
        "kernel": release,
        "module_kernels": frozenset(kernels),
        "module_loaded": loaded.is_dir(),
        "module_version": _read(loaded / "version"),
        "module_at_boot": any(_mentions(root, "modules-load.d", r"^\s*v4l2loopback\b")),
        "module_options": tuple(_mentions(root, "modprobe.d", r"^\s*options\s+v4l2loopback\b")),
        "secure_boot": secure,
        "module_key_enrolled": enrolled,
    }


def _secure_boot(root: Path) -> bool:
    """True if the firmware checks signatures: byte 4 of the variable, after its attributes."""
    for variable in (root / "sys/firmware/efi/efivars").glob("SecureBoot-*"):
        with contextlib.suppress(OSError):
            return variable.read_bytes()[4:5] == b"\x01"
    return False


def _mentions(root: Path, directory: str, pattern: str) -> Iterator[str]:
    """Configuration files with a line that matches; the first of a name hides the others."""
    seen: set[str] = set()
    folders = [root / "etc" / directory, root / "run" / directory, root / "usr/lib" / directory]
    files = [file for folder in folders for file in sorted(folder.glob("*.conf"))]
    if directory == "modules-load.d":
        files.append(root / "etc/modules")
    for file in files:
        if file.name not in seen and re.search(pattern, _read(file), re.M):
            yield f"/{file.relative_to(root)}"
        seen.add(file.name)


def _video_group(environ: Mapping[str, str]) -> dict[str, Any]:
    import grp

    try:
        group = grp.getgrnam("video")
    except KeyError:
        return {}
    mine = os.getuid() == 0 or group.gr_gid in {*os.getgroups(), os.getgid()}
    return {
        "in_video_group": mine,
        "added_to_video_group": mine or environ.get("USER", "") in group.gr_mem,
    }


def _nodes(root: Path) -> Iterator[Node]:
    """Every video node; opening one neither starts a camera nor disturbs who streams from it."""
    holders = _holders(root)
    parameters = root / "sys/module/v4l2loopback/parameters"
    numbers = _read(parameters / "video_nr").split(",")
    exclusive = _read(parameters / "exclusive_caps").split(",")
    virtual_seen = 0
    found = [d for d in (root / "sys/class/video4linux").glob("video*") if d.name[5:].isdigit()]
    for entry in sorted(found, key=lambda d: int(d.name[5:])):
        path = root / "dev" / entry.name
        number = entry.name[5:]
        # A loopback hangs on no bus; a label can be anybody's.
        virtual = "virtual" in entry.resolve().parts
        only: bool | None = None
        if virtual:
            place = numbers.index(number) if number in numbers else virtual_seen
            only = exclusive[place] == "Y" if place < len(exclusive) and exclusive[0] else None
            virtual_seen += 1
        known = _capabilities(path)
        size = re.search(r"(\d+)x(\d+)", _read(entry / "format")) if virtual else None
        yield Node(
            path=f"/dev/{entry.name}",
            name=plain(_read(entry / "name")),
            virtual=virtual,
            allowed=os.access(path, os.R_OK | os.W_OK),
            captures=None if known is None else known.captures and known.flags & v4l2.CAP_M2M == 0,
            outputs=None if known is None else known.outputs,
            exclusive=only,
            size=(int(size[1]), int(size[2])) if size else None,
            holders=holders.get(f"/dev/{entry.name}", ()),
            raw="" if virtual else _raw(plain(_read(entry / "name")), known, path),
        )


def _raw(label: str, known: Capabilities | None, path: Path) -> str:
    """Kind of device that hands out raw sensor data at this node; "" for an ordinary camera."""
    if known is None:
        return sensors.pipeline([label])
    media = bool(known.flags & v4l2.CAP_IO_MC)
    names = [label, known.driver, known.card, known.bus]
    return sensors.pipeline(names, formats_of(path), media=media)


def _capabilities(path: Path) -> Capabilities | None:
    """Capabilities of a node; None where it cannot be asked."""
    try:
        descriptor = v4l2.open_node(path)
    except OSError:
        return None
    try:
        return v4l2.capabilities(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _holders(root: Path) -> dict[str, tuple[Holder, ...]]:
    """Programs with a video node open, among those this user may look at."""
    found: dict[str, set[Holder]] = {}
    for process in (root / "proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for link in os.scandir(process / "fd"):
                with contextlib.suppress(OSError):
                    target = os.readlink(link.path)
                    if target.startswith("/dev/video"):
                        holder = Holder(int(process.name), plain(_read(process / "comm")))
                        found.setdefault(target, set()).add(holder)
    return {path: tuple(sorted(who, key=lambda h: h.pid)) for path, who in found.items()}


def _unit(environ: Mapping[str, str], run: Run) -> dict[str, Any]:
    path = systemd.unit_path(environ)
    if path is None:
        return {}
    command = re.search(r"^ExecStart=[-@:+!]*(\S+)", _read(path), re.M)
    program = command[1].replace("%h", environ.get("HOME", "")) if command else ""
    running = run(["systemctl", "--user", "show", "-P", "ActiveState", systemd.UNIT]) or ""
    return {
        "unit_file": str(path),
        "unit_command_exists": not program.startswith("/") or os.access(program, os.X_OK),
        "unit_failed": running.strip() == "failed",
    }


def _desktop(root: Path, environ: Mapping[str, str], run: Run) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "graphical": bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")),
        "desktop": environ.get("XDG_CURRENT_DESKTOP", ""),
        "browsers": frozenset(
            name for name in ("firefox", "chromium", "google-chrome") if shutil.which(name)
        ),
        "flatpaks_without_camera": tuple(_flatpaks(run)),
        "snaps_without_camera": tuple(_snaps(run)),
    }
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime:
        facts["pipewire"] = (Path(runtime) / "pipewire-0").exists()
        if facts["pipewire"] and (told := run(["pw-dump"])):
            facts["session_manager"] = _has_session_manager(told)
    with contextlib.suppress(Exception):  # no bus, no library: nothing is known
        facts |= asyncio.run(asyncio.wait_for(_session_bus(), timeout=3))
    return facts


SESSION_MANAGERS = ("WirePlumber", "pipewire-media-session")


def _has_session_manager(told: str) -> bool | None:
    """True if one is among PipeWire's clients; its settings name them, too, whoever runs."""
    try:
        objects = json.loads(told)
    except ValueError:
        return None
    clients = (o for o in objects if str(o.get("type")).endswith(":Client"))
    names = (((o.get("info") or {}).get("props") or {}).get("application.name") for o in clients)
    return any(str(name).startswith(SESSION_MANAGERS) for name in names)


CALLERS = ("zoom", "teams", "discord", "chrome", "chromium", "firefox", "slack", "skype", "webex")


def _flatpaks(run: Run) -> Iterator[str]:
    """Flatpak programs made for calls that may not open video devices."""
    for name in (run(["flatpak", "list", "--app", "--columns=application"]) or "").split():
        if any(word in name.lower() for word in CALLERS):
            rights = run(["flatpak", "info", "--show-permissions", name]) or "devices=all"
            if not re.search(r"^devices=.*\ball\b", rights, re.M):
                yield plain(name)


def _snaps(run: Run) -> Iterator[str]:
    """Snap programs whose camera plug leads nowhere."""
    for line in (run(["snap", "connections"]) or "").splitlines():
        words = line.split()
        if len(words) >= 3 and words[0] == "camera" and words[2] == "-":
            yield plain(words[1].split(":")[0])


async def _session_bus() -> dict[str, Any]:
    from dbus_fast import BusType, Message, MessageType
    from dbus_fast.aio import MessageBus

    bus = await MessageBus(bus_type=BusType.SESSION).connect()

    async def ask(name: str, path: str, member: str, signature: str, *body: str) -> Any:
        interface = name if path != "/org/freedesktop/DBus" else "org.freedesktop.DBus"
        reply = await bus.call(
            Message(
                destination=name,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=list(body),
            )
        )
        return reply.body if reply and reply.message_type == MessageType.METHOD_RETURN else None

    async def there(name: str) -> bool:
        dbus = "org.freedesktop.DBus"
        return bool((await ask(dbus, "/org/freedesktop/DBus", "NameHasOwner", "s", name))[0])

    try:
        store = "org.freedesktop.impl.portal.PermissionStore"
        path = "/org/freedesktop/impl/portal/PermissionStore"
        kept = await ask(store, path, "Lookup", "ss", "devices", "camera")
        return {
            "tray": await there("org.kde.StatusNotifierWatcher"),
            "portal": await there("org.freedesktop.portal.Desktop"),
            "camera_refused_to": tuple(
                plain(app) or "programs outside a sandbox"
                for app, answer in (kept[0] if kept else {}).items()
                if "no" in answer
            ),
        }
    finally:
        bus.disconnect()


def obs_camera(system: str) -> bool | None:
    """True if OBS' virtual camera, which carries our picture there, is installed."""
    if system == "darwin":
        return any(
            Path(place).exists()
            for place in ("/Applications/OBS.app", str(Path.home() / "Applications/OBS.app"))
        )
    if system == "win32":
        import winreg

        # The class under which OBS registers its DirectShow filter.
        key = r"CLSID\{A3FCE0F5-3493-419F-958A-ABA1250EC20B}"
        try:
            winreg.OpenKey(winreg.HKEY_CLASSES_ROOT, key).Close()  # type: ignore[attr-defined,unused-ignore]
            return True
        except OSError:
            return False
    return None
