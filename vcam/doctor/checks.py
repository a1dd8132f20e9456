"""Checks of cameras: the module, its devices, the webcam. The list of all checks.

Each check is a plain function from `Surroundings` to findings: it reads facts, changes nothing,
and says nothing where nothing is wrong.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from vcam.doctor import facts
from vcam.doctor.facts import Surroundings
from vcam.doctor.finding import Check, Finding, install, wanted
from vcam.doctor.programs import (
    daemon,
    engine,
    fedora_firefox,
    frame_rate,
    obs,
    pipewire,
    sandboxes,
    settings,
    tray,
    unit,
)
from vcam.keeper.messages import PROCESS as KEEPER
from vcam.system import sensors


def module(seen: Surroundings) -> Iterator[Finding]:
    """v4l2loopback is installed for this kernel, trusted, loaded, and will be after a restart."""
    for finding in _module(seen):
        if finding.severity == "error" and seen.sinks:
            why = f"{finding.why} The picture goes to {' and '.join(sorted(seen.sinks))} meanwhile."
            yield replace(finding, severity="note", why=why)
        else:
            yield finding


def _module(seen: Surroundings) -> Iterator[Finding]:
    if seen.system != "linux" or not wanted(seen, "v4l2loopback"):
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
            install(seen),
            True,
            "v4l2loopback",
        )
    elif seen.kernel not in seen.module_kernels:
        built = ", ".join(sorted(seen.module_kernels))
        yield Finding(
            "error",
            f"v4l2loopback is built for kernel {built}, but {seen.kernel} is running.",
            "A new kernel needs its headers so that the module can be built again.",
            _rebuild(seen),
            True,
            "v4l2loopback",
        )
    elif seen.secure_boot and seen.module_key_enrolled is not True:
        yield Finding(
            "error",
            "Secure Boot refuses v4l2loopback: the key it is signed with is not enrolled.",
            "The command asks for a password; restart, choose “Enroll MOK” in the blue screen "
            "and type it again. That is done once.",
            f"sudo mokutil --import {shlex.quote(seen.module_key)}",
            True,
            "v4l2loopback",
        )
    else:
        yield Finding(
            "error",
            "The kernel module v4l2loopback is installed but not loaded.",
            "Without it there is no virtual camera to choose.",
            "sudo modprobe v4l2loopback",
            True,
            "v4l2loopback",
        )


def _rebuild(seen: Surroundings) -> str:
    words = seen.distribution.split()
    if "debian" in words or "ubuntu" in words:
        return f"sudo apt-get install linux-headers-{seen.kernel} && sudo dkms autoinstall"
    if "fedora" in words:
        return f"sudo dnf install kernel-devel-{seen.kernel} && sudo akmods --force"
    return install(seen)


def camera_exists(seen: Surroundings) -> Iterator[Finding]:
    """There is one virtual camera of our name."""
    if not seen.module_loaded or not wanted(seen, "v4l2loopback"):
        return
    if not seen.loopbacks:
        yield Finding(
            "error",
            "v4l2loopback is loaded but has no device.",
            "There is nothing other programs could choose.",
            install(seen),
            True,
            "v4l2loopback",
        )
    elif not seen.ours:
        names = ", ".join(f"{node.path} “{node.name}”" for node in seen.loopbacks)
        yield Finding(
            "error",
            f"No virtual camera is called “VBG Camera”; there is {names}.",
            "Programs list cameras by that label, and other programs' devices are not taken.",
            install(seen),
            True,
            "v4l2loopback",
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
                install(seen),
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
        elif seen.status is None and node.captures:
            continue  # another program feeds it: `other_writer` tells
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
        if node.captures and node.holders and not any(h.name == KEEPER for h in node.holders):
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
    if seen.config_problems:  # whoever mends them may have named another camera there
        return
    for what in seen.sensors:
        # With another camera beside it, it is worth knowing and no more.
        yield Finding(
            "note" if seen.webcams else "warning",
            f"A camera here hangs on {what}, which hands out raw sensor data.",
            sensors.THROUGH_LIBCAMERA,
        )
    source_now = (seen.status or {}).get("source") or {}
    if not seen.webcams and not seen.sensors and not source_now.get("live"):
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
            install(seen),
            True,
        )


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
    frame_rate,
    engine,
    pipewire,
    fedora_firefox,
    sandboxes,
    unit,
    tray,
    obs,
    daemon,  # what the others have said is not repeated
)
