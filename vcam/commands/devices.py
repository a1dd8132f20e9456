"""`vcam devices`, which lists what there is, and `vcam doctor`, which says what is missing."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TypeVar

from segmentation.engines import devices as accelerators
from segmentation.engines import nvidia
from vcam.client import Client
from vcam.doctor import report
from vcam.errors import DaemonError, SourceError, VcamError
from vcam.foreign_text import say
from vcam.settings.config import load, user_path
from vcam.settings.live import Settings
from vcam.system import devices
from vcam.system.cameras import find_camera
from vcam.system.controls import kept_controls, turn_controls
from vcam.system.devices import CameraInfo, Holder, Mode, VirtualCameraInfo
from vcam.system.paths import cache_dir
from vcam.words import _, told

Listed = TypeVar("Listed", CameraInfo, VirtualCameraInfo)


def doctor(options: argparse.Namespace) -> int:
    """`vcam doctor`: examine this machine; the exit code."""
    return report.run(json=options.json, fix=options.fix)


def run(options: argparse.Namespace) -> int:
    """`vcam devices`: print what there is, or turn a camera's controls; the exit code."""
    if options.set:
        return set_controls(options.set, options.camera)
    return listed(as_json=options.json)


def listed(*, as_json: bool) -> int:
    """Print what there is and which program holds it; the exit code."""
    ours = _ours()
    cameras = [_also_held(camera, ours) for camera in devices.list_cameras()]
    virtual = [_also_held(camera, ours) for camera in devices.list_virtual_cameras()]
    if as_json:
        answer = {
            "cameras": [asdict(camera) for camera in cameras],
            "virtual": [asdict(camera) for camera in virtual],
            "engines": engines(),
        }
        say(json.dumps(answer, indent=2), limit=None)
        return 0
    say(_("Cameras"))
    for camera in cameras:
        kind = f"  {_('infrared')}" if camera.infrared else ""
        say(f"  {camera.name}  {camera.path}{kind}{_held(camera.holders)}")
        if camera.stable != camera.path:
            say(f"    {camera.stable}")
        for line in _summary(camera.formats):
            say(f"    {line}")
        for control in devices.list_controls(camera.path):
            say(
                f"    {control.name} = {control.value} ("
                + _("{0} to {1}, {2} at first", control.minimum, control.maximum, control.default)
                + ")"
            )
        if camera.problem:
            problem = told(camera.problem)
            say(f"    {_('cannot be opened: {0}', problem) if camera.readable else problem}")
    for what, count in devices.list_sensors().items():
        words = _("{0}: {1} nodes of raw data; `vcam doctor` says how to use them", what, count)
        say(f"  {words}")
    if not cameras:
        say("  " + _("none; the demo picture stands in for one"))
    say(_("Virtual cameras"))
    for device in virtual:
        size = f" {device.width}x{device.height}" if device.width else ""
        fed, unfed = _("fed, programs list it"), _("not fed, programs do not list it")
        state = fed if device.ready else unfed
        say(f"  {device.name}  {device.path}{size}  {state}{_held(device.holders)}")
        if device.problem:
            say(f"    {told(device.problem)}")
    if not virtual:
        say("  " + _("none; `vcam doctor` says how to get one"))
    say(_("For the network, besides the processor"))
    found = engines()
    for engine in found:
        say(f"  {engine['name']}  {engine['device']}  {told(engine['state'])}")
    if not found:
        say("  " + _("none"))
    return 0


def engines() -> list[dict[str, str]]:
    """GPUs and NPUs, each with its device, its name and whether it does the work."""
    found, used = [], ""
    with contextlib.suppress(VcamError):
        used = str(Client.connect().status()["engine"].get("device") or "")
    if card := nvidia.present():
        problem = nvidia.why_not()
        state = "in use" if used.startswith("CUDA") else problem or "could be used"
        found.append({"device": "CUDA", "name": card, "state": state})
    measured = accelerators.report(cache_dir())
    for device, name in accelerators.listed().items():
        state = "in use" if used == device else accelerators.verdict(measured, device)
        found.append({"device": device, "name": name, "state": state})
    return found


def _ours() -> dict[str, set[Holder]]:
    """Holders of each device as a daemon that runs sees them: it lets nobody look at itself."""
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
    return "  " + _("in use by {0}", names) if names else ""


def _summary(modes: tuple[Mode, ...]) -> list[str]:
    """One line a format: its sizes with the fastest rate."""
    by_format: dict[str, list[str]] = {}
    for mode in modes:
        rate = f"@{mode.fps:g}" if mode.rates else ""
        by_format.setdefault(mode.format, []).append(f"{mode.width}x{mode.height}{rate}")
    return [f"{name}: {' '.join(sizes)}" for name, sizes in by_format.items()]


def set_controls(wishes: list[str], selector: str | None) -> int:
    """`vcam devices --set NAME=VALUE`: turn the camera's knobs now and keep them; the exit code.

    Raises:
        SourceError: there is no such camera or control, or a value is out of its range.
    """
    camera = find_camera(selector) if selector else next(iter(devices.list_cameras()), None)
    if camera is None:
        raise SourceError("no camera is connected", hint="Check the cable.")
    values: dict[str, int | str] = {}
    for wish in wishes:
        name, _, text = wish.partition("=")
        values[name] = int(text) if re.fullmatch(r"-?\d+", text) else text
    turned = turn_controls(camera, values)
    _keep(camera, turned)
    say(f"{camera.name}: {', '.join(f'{name} = {value}' for name, value in turned.items())}")
    return 0


def _keep(camera: CameraInfo, values: dict[str, int]) -> None:
    """Write `values` into the settings; a daemon that runs does it itself."""
    config = load()
    changes = {"camera": {"controls": kept_controls(camera, values, config.camera.controls)}}
    try:
        Client.connect().change(changes)
    except DaemonError:
        with Settings(config).kept_in(user_path()) as settings:
            settings.change(changes)
            settings.flush()
