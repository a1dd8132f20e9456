"""Checks of programs: settings, daemon, engine, PipeWire, browsers, systemd, the panel."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from vcam import __version__
from vcam.doctor.facts import Surroundings
from vcam.doctor.finding import Finding, Severity, install


def settings(seen: Surroundings) -> Iterator[Finding]:
    """The settings can be read."""
    for problem in seen.config_problems:
        yield Finding(
            "error",
            problem.splitlines()[0],
            "The daemon does not start with settings it cannot read. "
            "`vcam config show` lists each with its meaning.",
            about="settings",
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
    problems = [str(text) for text in seen.status.get("problems") or ()]
    if seen.status.get("state") == "fault":
        reason = str(seen.status.get("reason") or "no reason given")
        # The first problem is the camera's, at more length than a card has room for.
        cause = " ".join(problems.pop(0).splitlines()) if problems else ""
        again = "You are shown again as soon as the cause is gone."
        yield Finding(
            "error",
            f"The camera shows the privacy card: {reason}.",
            f"{cause}. {again}" if cause else again,
        )
    yield from _missing(seen.status)
    told = [*problems, _of_engine(seen), seen.status.get("config_unsaved")]
    for problem in dict.fromkeys(str(text) for text in told if text):
        yield _told(problem)
    if seen.status.get("config_problem"):
        yield replace(_told(str(seen.status["config_problem"])), about="settings")


def _missing(status: Mapping[str, Any]) -> Iterator[Finding]:
    """Virtual cameras that were hoped for; while one is there, nobody needs the others."""
    if not status.get("sinks"):
        for name, problem in (status.get("missing") or {}).items():
            # A session without PipeWire lacks nothing: programs there use v4l2loopback.
            if name != "pipewire":
                yield replace(_told(str(problem)), severity="error", about=name)


def _told(problem: str) -> Finding:
    """A problem as the daemon tells it: a sentence, and on the next line the way out."""
    what, *more = problem.splitlines()
    # Who reads this has just run it.
    why = " ".join(line for line in more if "vcam doctor" not in line)
    about = "pipewire" if "pipewire" in what.lower() else ""
    return Finding("warning", what, why or "`vcam status` shows the rest.", about=about)


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
    if wanted == "auto" and seen.devices and not str(state.get("device")).startswith("CUDA"):
        yield Finding(
            "note",
            f"OpenVINO lists besides the processor: {'; '.join(seen.devices)}.",
            f"In use is {state.get('device') or 'none of them, the daemon does not run'}; "
            "each is measured at the first start, and used if it is right and faster.",
        )
    if not asked and (wanted != "auto" or not seen.gpu):
        return
    severity: Severity = "warning" if asked else "note"
    if seen.gpu_problem:
        what = 'The settings ask for engine = "cuda", but' if asked else "The GPU lies idle:"
        why = f"The processor does the work instead. {seen.gpu_remedy}".rstrip()
        yield Finding(severity, f"{what} {seen.gpu_problem}.", why)
    elif state.get("waits"):
        return  # as wanted
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
            about="pipewire",
        )
    if (
        seen.pipewire
        and seen.session_manager is False
        and ("pipewire" in seen.sinks or "pipewire" in sink)
    ):
        yield Finding(
            "error",
            "PipeWire has no session manager.",
            "WirePlumber links programs with cameras; without it they list VBG Camera and get no "
            "picture, or list nothing.",
            "systemctl --user restart wireplumber.service",
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
            install(seen),
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
            "obs",
        )
