"""Checks for what keeps the camera from showing up, each with the command that mends it.

Each check is a plain function from `Surroundings` to findings: it reads facts, changes nothing,
and says nothing where nothing is wrong.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from vcam import __version__
from vcam.doctor import facts
from vcam.doctor.facts import Surroundings
from vcam.system import sensors

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    `error`: the camera cannot be used; `warning`: it works worse or for some programs not at all;
    `note`: worth knowing. `command` is one line for a shell, "" where only a person can act.
    """

    severity: Severity
    what: str
    why: str
    command: str = ""
    needs_root: bool = False


Check = Callable[[Surroundings], Iterator[Finding]]


def _install(seen: Surroundings) -> str:
    return f"bash {shlex.quote(seen.installer)}"


def module(seen: Surroundings) -> Iterator[Finding]:
    """v4l2loopback is installed for this kernel, trusted, loaded, and will be after a restart."""
    if seen.system != "linux" or not _wants(seen, "v4l2loopback"):
        return
    if seen.module_loaded:
        if not seen.module_at_boot:
            yield Finding(
                "warning",
                "v4l2loopback is not loaded at start-up.",
                "After the next restart VBG Camera would be gone.",
                "echo v4l2loopback | sudo tee /etc/modules-load.d/vcam.conf",
                True,
            )
        return
    if not seen.module_kernels:
        yield Finding(
            "error",
            "The kernel module v4l2loopback is not installed.",
            "It makes the virtual camera that other programs choose.",
            _install(seen),
            True,
        )
    elif seen.kernel not in seen.module_kernels:
        built = ", ".join(sorted(seen.module_kernels))
        yield Finding(
            "error",
            f"v4l2loopback is built for kernel {built}, but {seen.kernel} is running.",
            "A new kernel needs its headers so that the module can be built again.",
            _rebuild(seen),
            True,
        )
    elif seen.secure_boot and seen.module_key_enrolled is not True:
        yield Finding(
            "error",
            "Secure Boot refuses v4l2loopback: the key it is signed with is not enrolled.",
            "The command asks for a password; restart, choose “Enroll MOK” in the blue screen "
            "and type it again. That is done once.",
            f"sudo mokutil --import {shlex.quote(seen.module_key)}",
            True,
        )
    else:
        yield Finding(
            "error",
            "The kernel module v4l2loopback is installed but not loaded.",
            "Without it there is no virtual camera to choose.",
            "sudo modprobe v4l2loopback",
            True,
        )


def _rebuild(seen: Surroundings) -> str:
    words = seen.distribution.split()
    if "debian" in words or "ubuntu" in words:
        return f"sudo apt-get install linux-headers-{seen.kernel} && sudo dkms autoinstall"
    if "fedora" in words:
        return f"sudo dnf install kernel-devel-{seen.kernel} && sudo akmods --force"
    return _install(seen)


def camera_exists(seen: Surroundings) -> Iterator[Finding]:
    """There is one virtual camera of our name."""
    if not seen.module_loaded or not _wants(seen, "v4l2loopback"):
        return
    if not seen.loopbacks:
        yield Finding(
            "error",
            "v4l2loopback is loaded but has no device.",
            "There is nothing other programs could choose.",
            _install(seen),
            True,
        )
    elif not seen.ours:
        names = ", ".join(f"{node.path} “{node.name}”" for node in seen.loopbacks)
        yield Finding(
            "error",
            f"No virtual camera is called “VBG Camera”; there is {names}.",
            "Programs list cameras by that label, and other programs' devices are not taken.",
            _install(seen),
            True,
        )
    elif len(seen.ours) > 1:
        names = " and ".join(node.path for node in seen.ours)
        fed = [sink.get("name", "") for sink in (seen.status or {}).get("sinks", ())]
        free = [n for n in seen.ours if not n.holders and not _is_fed(n, fed)]
        spare = (free or seen.ours)[-1]
        yield Finding(
            "warning",
            f"{names} are both called “VBG Camera”.",
            "Only one of them carries your picture; choosing the other shows nothing.",
            f"sudo v4l2loopback-ctl delete {spare.path}",
            True,
        )


def exclusive_caps(seen: Surroundings) -> Iterator[Finding]:
    """The virtual camera looks like a camera, not like a screen as well."""
    for node in seen.ours:
        if node.exclusive is False:
            yield Finding(
                "error",
                f"{node.path} was made without exclusive_caps=1.",
                "Chrome, Meet, Teams and Zoom do not list a device that also takes pictures in.",
                _install(seen),
                True,
            )


def stuck(seen: Surroundings) -> Iterator[Finding]:
    """The virtual camera offers at least one of its two ends (v4l2loopback 0.12 can lose both)."""
    for node in seen.ours:
        if node.captures is False and node.outputs is False:
            version = f" {seen.module_version}" if seen.module_version else ""
            yield Finding(
                "error",
                f"{node.path} is stuck: it can neither be written nor read.",
                f"v4l2loopback{version} gets there when a program that wrote to it ends; "
                "writing to it once more brings it back.",
                "vcam start",
            )


def odd_size(seen: Surroundings) -> Iterator[Finding]:
    """The virtual camera has an even size, and the one the settings ask for."""
    wanted = (seen.setting("output", "width"), seen.setting("output", "height"))
    for node in seen.ours:
        if node.size and (node.size[0] % 2 or node.size[1] % 2):
            yield Finding(
                "error",
                f"{node.path} is fixed at {node.size[0]}x{node.size[1]}, which is odd.",
                "Chrome shows odd sizes skewed; 1280x720, 1920x1080 and 640x360 are safe.",
                "sudo modprobe -r v4l2loopback && sudo modprobe v4l2loopback",
                True,
            )
        elif node.size and None not in wanted and node.size != wanted and node.holders:
            yield Finding(
                "warning",
                f"{node.path} is {node.size[0]}x{node.size[1]}, the settings say "
                f"{wanted[0]}x{wanted[1]}.",
                "The size cannot change while a program reads the camera: close "
                f"{_names(node)}, then start again.",
            )


def _is_fed(node: facts.Node, sinks: list[str]) -> bool:
    """True if a daemon that runs sends pictures there: what it holds, only it can tell."""
    return any(name.endswith(f"({node.path})") for name in sinks)


def _names(node: facts.Node) -> str:
    return ", ".join(f"{holder.name} (pid {holder.pid})" for holder in node.holders)


def other_writer(seen: Surroundings) -> Iterator[Finding]:
    """Nobody but us can be feeding the virtual camera while our daemon does not run."""
    if seen.status is not None:
        return
    for node in seen.ours:
        # A device that captures has a writer, and the writer is not our daemon.
        if node.captures and node.holders:
            yield Finding(
                "warning",
                f"Another program feeds {node.path}: {_names(node)}.",
                "Only one program can send pictures to VBG Camera; close that one.",
            )


def webcam(seen: Surroundings) -> Iterator[Finding]:
    """There is a webcam, and it is ours to open."""
    source = seen.setting("camera", "source")
    if seen.system != "linux" or (source not in (None, "auto") and not _is_device(source)):
        return
    for what in seen.sensors:
        # With another camera beside it, it is worth knowing and no more.
        yield Finding(
            "note" if seen.webcams else "warning",
            f"A camera here hangs on {what}, which hands out raw sensor data.",
            sensors.THROUGH_LIBCAMERA,
        )
    if not seen.webcams and not seen.sensors:
        yield Finding(
            "warning",
            "No webcam was found.",
            "The demo picture is shown instead. Check the cable, the lid's shutter and the "
            "camera's switch or key.",
        )
    ours = (seen.status or {}).get("pid")
    for node in seen.webcams:
        others = tuple(h for h in node.holders if h.pid != ours)
        busy = "busy" in str((seen.status or {}).get("reason", "")).lower()
        if others and (seen.status is None or busy):
            who = _names(facts.Node(node.path, node.name, holders=others))
            yield Finding(
                "warning",
                f"{node.name} ({node.path}) is in use by {who}.",
                "A webcam serves one program at a time: close it, or choose VBG Camera there.",
            )


def _is_device(source: object) -> bool:
    return isinstance(source, str) and source.startswith("/dev/")


def permission(seen: Surroundings) -> Iterator[Finding]:
    """This user may open the video devices."""
    closed = [node for node in seen.nodes if not node.allowed]
    if not closed:
        return
    paths = ", ".join(node.path for node in closed)
    if seen.added_to_video_group and not seen.in_video_group:
        yield Finding(
            "error",
            f"{seen.user or 'You'} joined the group video, but this session does not know yet.",
            f"{paths} cannot be opened until you log out and in again.",
        )
    elif seen.in_video_group:
        yield Finding(
            "error",
            f"{paths} cannot be opened, although you are in the group video.",
            "The device's owner or mode was changed; this sets both as they should be.",
            f"sudo chgrp video {closed[0].path} && sudo chmod 660 {closed[0].path}",
            True,
        )
    else:
        yield Finding(
            "error",
            f"You may not open {paths}.",
            "Video devices belong to the group video; log out and in again afterwards.",
            f"sudo usermod -aG video {shlex.quote(seen.user or '$USER')}",
            True,
        )


def loopback_options(seen: Surroundings) -> Iterator[Finding]:
    """No second file sets v4l2loopback's options: the kernel takes the last word of each."""
    if len(seen.module_options) > 1:
        yield Finding(
            "warning",
            f"{' and '.join(seen.module_options)} all set options of v4l2loopback.",
            "The later one wins and may take VBG Camera's name or device away at the next start.",
            _install(seen),
            True,
        )


def settings(seen: Surroundings) -> Iterator[Finding]:
    """The settings can be read."""
    for problem in seen.config_problems:
        yield Finding(
            "error",
            problem.splitlines()[0],
            "The daemon does not start with settings it cannot read. "
            "`vcam config show` lists each with its meaning.",
        )


def daemon(seen: Surroundings) -> Iterator[Finding]:
    """The daemon runs, is of our version and has no fault."""
    if seen.status is None:
        if not seen.unit_failed and not seen.config_problems:
            yield Finding(
                "note",
                "The daemon is not running.",
                "Browsers list VBG Camera only while something feeds it.",
                "vcam start",
            )
        return
    theirs = str(seen.status.get("version", __version__))
    if theirs != __version__:
        yield Finding(
            "warning",
            f"The running daemon is version {theirs}, installed is {__version__}.",
            "It keeps running as it was: `vcam stop`, then `vcam start`, when no call is on.",
        )
    if seen.status.get("state") == "fault":
        reason = str(seen.status.get("reason") or "no reason given")
        yield Finding(
            "error",
            f"The camera shows the privacy card: {reason}.",
            "You are shown again as soon as the cause is gone.",
        )
    told = [
        *(seen.status.get("problems") or ()),
        _of_engine(seen),
        seen.status.get("config_problem"),
        seen.status.get("config_unsaved"),
    ]
    for problem in dict.fromkeys(str(text) for text in told if text):
        what, *more = problem.splitlines()
        why = " ".join(more) or "The daemon says so; `vcam status` shows the rest."
        yield Finding("warning", what, why)


def frame_rate(seen: Surroundings) -> Iterator[Finding]:
    """The webcam grants about the rate that was asked for."""
    source = (seen.status or {}).get("source") or {}
    if not source.get("open") or not source.get("live"):
        return
    asked, granted = seen.setting("camera", "fps"), source.get("fps")
    if not asked or not isinstance(granted, (int, float)) or granted >= 0.8 * asked:
        return
    why = (
        "In poor light many webcams halve their rate; and pictures that are not MJPG are too large "
        'for USB 2 at this size: more light, format = "mjpg", or a smaller size.'
    )
    name = source.get("name", "The webcam")
    yield Finding("warning", f"{name} grants {granted:g} of {asked:g} frames a second.", why)


def _of_engine(seen: Surroundings) -> str:
    """Reason for an engine that was not asked for, where `engine` does not say it anyway."""
    problem = str(((seen.status or {}).get("engine") or {}).get("problem") or "")
    return "" if seen.gpu_problem and problem.startswith(seen.gpu_problem) else problem


def engine(seen: Surroundings) -> Iterator[Finding]:
    """The engine that was asked for is the one in use, and a GPU does not lie idle."""
    wanted, state = seen.setting("matte", "engine"), (seen.status or {}).get("engine") or {}
    asked = wanted == "cuda"
    if not asked and (wanted != "auto" or not seen.gpu):
        return
    severity: Severity = "warning" if asked else "note"
    if seen.gpu_problem:
        what = 'The settings ask for engine = "cuda", but' if asked else "The GPU lies idle:"
        why = f"The processor does the work instead. {seen.gpu_remedy}".rstrip()
        yield Finding(severity, f"{what} {seen.gpu_problem}.", why)
    elif seen.gpu and state.get("engine") not in (None, "cuda") and not state.get("problem"):
        yield Finding(
            severity,
            f"The GPU could do the work, in use is {state.get('device') or state['engine']}.",
            "The daemon was started before CUDA could be used, or the model is one that only the "
            "processor runs. Stop the daemon and start it again.",
        )


def pipewire(seen: Surroundings) -> Iterator[Finding]:
    """Where the picture goes through PipeWire, PipeWire, the portal and the browsers let it."""
    sink = str(seen.setting("output", "sink") or "")
    if "pipewire" in sink.split(",") and seen.pipewire is False:
        yield Finding(
            "error",
            "The settings send the picture to PipeWire, which is not running.",
            "No program can see the camera.",
            "systemctl --user start pipewire.socket wireplumber.service",
        )
    if "pipewire" in sink.split(",") and seen.pipewire and seen.portal is False and seen.graphical:
        yield Finding(
            "warning",
            "xdg-desktop-portal is not running.",
            "Browsers ask it for cameras of PipeWire and find none without it.",
            "systemctl --user start xdg-desktop-portal.service",
        )
    for program in seen.camera_refused_to:
        yield Finding(
            "error",
            f"The desktop refuses the camera to {program}.",
            "A “no” given once is kept, and the program then lists no camera.",
            "gdbus call --session --dest org.freedesktop.impl.portal.PermissionStore "
            "--object-path /org/freedesktop/impl/portal/PermissionStore "
            "--method org.freedesktop.impl.portal.PermissionStore.Delete devices camera",
        )
    pure = sink == "pipewire" and seen.pipewire is not False
    if pure and "firefox" in seen.browsers and "fedora" not in seen.distribution.split():
        yield Finding(
            "note",
            "Firefox looks for cameras of PipeWire only when told to.",
            "Set media.webrtc.camera.allow-pipewire to true in about:config.",
        )
    if pure and seen.browsers & {"chromium", "google-chrome"}:
        yield Finding(
            "note",
            "Chrome looks for cameras of PipeWire only when told to.",
            "Set chrome://flags/#enable-webrtc-pipewire-camera to Enabled.",
        )


def fedora_firefox(seen: Surroundings) -> Iterator[Finding]:
    """Fedora's Firefox sees cameras of PipeWire alone, so the picture has to go there too."""
    if "fedora" not in seen.distribution.split() or "firefox" not in seen.browsers:
        return
    sink = str(seen.setting("output", "sink") or "auto")
    if ("auto" in sink.split(",") and seen.pipewire is not False) or "pipewire" in sink:
        return
    yield Finding(
        "warning",
        "Fedora's Firefox does not list v4l2loopback cameras.",
        'It asks PipeWire alone. Set sink = "auto", or set media.webrtc.camera.allow-pipewire '
        "to false in about:config.",
    )


def sandboxes(seen: Surroundings) -> Iterator[Finding]:
    """Programs from Flatpak and Snap may use cameras."""
    for name in seen.flatpaks_without_camera:
        yield Finding(
            "warning",
            f"The Flatpak {name} may not open video devices.",
            "It lists no camera, real or virtual.",
            f"flatpak override --user --device=all {shlex.quote(name)}",
        )
    for name in seen.snaps_without_camera:
        yield Finding(
            "warning",
            f"The Snap {name} may not use cameras.",
            "It lists no camera, real or virtual.",
            f"sudo snap connect {shlex.quote(name + ':camera')}",
            True,
        )


def unit(seen: Surroundings) -> Iterator[Finding]:
    """The service that starts the daemon at login works."""
    if not seen.unit_file:
        return
    if not seen.unit_command_exists:
        yield Finding(
            "error",
            f"{seen.unit_file} starts a program that is not there.",
            "The program was moved or installed again elsewhere.",
            _install(seen),
            True,
        )
    elif seen.unit_failed:
        yield Finding(
            "error",
            "The service vcam.service failed and gave up.",
            "`journalctl --user -u vcam` says why. This starts it again.",
            "systemctl --user restart vcam.service",
        )


def tray(seen: Surroundings) -> Iterator[Finding]:
    """The desktop has a place for the tray icon."""
    if seen.system != "linux" or not seen.graphical or seen.tray is not False:
        return
    if "GNOME" in seen.desktop.upper():
        yield Finding(
            "warning",
            "GNOME shows no tray icons without an extension.",
            "Install the package gnome-shell-extension-appindicator, log out and in, then switch "
            "it on. `vcam open` works without.",
            "gnome-extensions enable ubuntu-appindicators@ubuntu.com"
            if "ubuntu" in seen.distribution.split()
            else "gnome-extensions enable appindicatorsupport@rgcjonas.gmail.com",
        )
    else:
        yield Finding(
            "warning",
            "This desktop shows no tray icons.",
            "Add a “status tray” to its panel; `vcam open` works without.",
        )


def obs(seen: Surroundings) -> Iterator[Finding]:
    """On Windows and macOS the picture travels through OBS' virtual camera."""
    if seen.obs is False:
        shell = "powershell -File " if seen.system == "win32" else "bash "
        yield Finding(
            "error",
            "OBS Studio, which brings the virtual camera for this system, is not installed.",
            "Start its virtual camera once; programs then list “OBS Virtual Camera”.",
            f"{shell}{shlex.quote(seen.installer)}",
            True,
        )


def _wants(seen: Surroundings, kind: str) -> bool:
    """True if the picture is meant to go to sinks of this kind."""
    sinks = str(seen.setting("output", "sink") or "auto").split(",")
    return any(sink in ("auto", kind) or sink.startswith("/dev/") for sink in sinks)


CHECKS: Final[tuple[Check, ...]] = (
    module,
    camera_exists,
    exclusive_caps,
    stuck,
    odd_size,
    other_writer,
    loopback_options,
    permission,
    webcam,
    settings,
    daemon,
    frame_rate,
    engine,
    pipewire,
    fedora_firefox,
    sandboxes,
    unit,
    tray,
    obs,
)
