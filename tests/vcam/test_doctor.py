"""doctor names the cause and the command of every planted fault, and is silent in good health."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vcam import __version__
from vcam.doctor import checks
from vcam.doctor import report as doctor
from vcam.doctor.facts import Node, Surroundings, look
from vcam.doctor.finding import Finding
from vcam.doctor.report import mend, report, run_checks
from vcam.system.devices import Holder

WEBCAM = Node("/dev/video0", "HD Webcam C920", captures=True, outputs=False)
OURS = Node(
    "/dev/video10",
    "VBG Camera",
    virtual=True,
    captures=True,
    outputs=False,
    exclusive=True,
    size=(1280, 720),
    holders=(Holder(4000, "vcam"),),
)
CONFIG: dict[str, dict[str, Any]] = {
    "camera": {"source": "auto", "fps": 30.0, "format": "auto"},
    "output": {"sink": "auto", "width": 1280, "height": 720},
    "matte": {"engine": "auto"},
}
HEALTHY = Surroundings(
    distribution="debian",
    user="ann",
    kernel="6.1.0-35-amd64",
    module_kernels=frozenset({"6.1.0-35-amd64"}),
    module_loaded=True,
    module_version="0.12.7",
    module_at_boot=True,
    module_options=("/etc/modprobe.d/vcam.conf",),
    nodes=(WEBCAM, OURS),
    status={
        "version": __version__,
        "pid": 4000,
        "state": "live",
        "source": {"name": "HD Webcam C920", "fps": 30.0, "open": True, "live": True},
        "engine": {"engine": "openvino", "device": "CPU", "problem": None},
        "problems": [],
    },
    config=CONFIG,
    unit_file="/home/ann/.config/systemd/user/vcam.service",
    pipewire=True,
    portal=True,
    browsers=frozenset({"firefox", "chromium"}),
    graphical=True,
    desktop="XFCE",
    tray=True,
    installer="/opt/vcam/linux.sh",
)
INSTALL = "bash /opt/vcam/linux.sh"
CPU_IN_USE = {"engine": "openvino", "device": "CPU", "problem": None}
NO_TORCH = "there is an H100, but torch is not installed"


def with_settings(**keys: object) -> dict[str, dict[str, Any]]:
    """The settings with `section_key=value` changed."""
    changed = {section: dict(values) for section, values in CONFIG.items()}
    for name, value in keys.items():
        section, key = name.split("_", 1)
        changed[section][key] = value
    return changed


def with_ours(**facts: Any) -> tuple[Node, ...]:
    return (WEBCAM, replace(OURS, **facts))


def with_status(**facts: Any) -> dict[str, Any]:
    assert HEALTHY.status is not None
    return {**HEALTHY.status, **facts}


def test_a_healthy_machine_hears_nothing() -> None:
    assert run_checks(HEALTHY) == []
    assert report([]) == f"Nothing is wrong: {len(checks.CHECKS)} checks passed."


NO_MODULE: dict[str, Any] = {"module_loaded": False, "nodes": (WEBCAM,)}
FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "module missing": (NO_MODULE | {"module_kernels": frozenset()}, "not installed", INSTALL),
    "module built for an old kernel": (
        NO_MODULE | {"kernel": "6.1.0-40-amd64"},
        "built for kernel 6.1.0-35-amd64, but 6.1.0-40-amd64 is running",
        "sudo apt-get install linux-headers-6.1.0-40-amd64 && sudo dkms autoinstall",
    ),
    "module built for an old kernel on Fedora": (
        NO_MODULE | {"kernel": "6.9.1", "distribution": "fedora", "browsers": frozenset()},
        "6.9.1 is running",
        "sudo dnf install kernel-devel-6.9.1 && sudo akmods --force",
    ),
    "module not loaded": (NO_MODULE, "not loaded", "sudo modprobe v4l2loopback"),
    "secure boot": (
        NO_MODULE | {"secure_boot": True, "module_key_enrolled": False},
        "Secure Boot refuses",
        "sudo mokutil --import /var/lib/dkms/mok.pub",
    ),
    "not loaded at boot": (
        {"module_at_boot": False},
        "not loaded at start-up",
        "echo v4l2loopback | sudo tee /etc/modules-load.d/vcam.conf",
    ),
    "no device": ({"nodes": (WEBCAM,)}, "has no device", INSTALL),
    "another label": (
        {"nodes": with_ours(name="Dummy video device (0x0000)")},
        "there is /dev/video10 “Dummy video device (0x0000)”",
        INSTALL,
    ),
    "two of our label": (
        {"nodes": (*HEALTHY.nodes, replace(OURS, path="/dev/video11", holders=()))},
        "/dev/video10 and /dev/video11 are both",
        "sudo v4l2loopback-ctl delete /dev/video11",
    ),
    "exclusive_caps off": ({"nodes": with_ours(exclusive=False)}, "exclusive_caps=1", INSTALL),
    "stuck": (
        {"nodes": with_ours(captures=False, outputs=False)},
        "is stuck: it can neither",
        "vcam start",
    ),
    "odd size": (
        {"nodes": with_ours(size=(1281, 720))},
        "1281x720, which is odd",
        "sudo modprobe -r v4l2loopback && sudo modprobe v4l2loopback",
    ),
    "another size": (
        {"nodes": with_ours(size=(640, 360), holders=(Holder(77, "zoom"),))},
        "is 640x360, the settings say 1280x720",
        "",
    ),
    "another writer": (
        {"status": None, "nodes": with_ours(size=(640, 360), holders=(Holder(55, "ffmpeg"),))},
        "Another program feeds /dev/video10: ffmpeg (pid 55)",
        "",
    ),
    "two option files": (
        {"module_options": ("/etc/modprobe.d/obs.conf", "/etc/modprobe.d/vcam.conf")},
        "/etc/modprobe.d/obs.conf and /etc/modprobe.d/vcam.conf",
        INSTALL,
    ),
    "not in the group": (
        {
            "nodes": (replace(WEBCAM, allowed=False), OURS),
            "in_video_group": False,
            "added_to_video_group": False,
        },
        "You may not open /dev/video0",
        "sudo usermod -aG video ann",
    ),
    "in the group from the next login": (
        {"nodes": (replace(WEBCAM, allowed=False), OURS), "in_video_group": False},
        "this session does not know yet",
        "",
    ),
    "wrong mode": (
        {"nodes": (replace(WEBCAM, allowed=False), OURS)},
        "although you are in the group video",
        "sudo chgrp video /dev/video0 && sudo chmod 660 /dev/video0",
    ),
    "no webcam": (
        {"nodes": (OURS,), "status": with_status(source={"name": "demo", "live": False})},
        "No webcam was found",
        "",
    ),
    "webcam busy": (
        {
            "nodes": (replace(WEBCAM, holders=(Holder(9, "cheese"),)), OURS),
            "status": with_status(state="fault", reason="camera busy"),
        },
        "in use by cheese (pid 9)",
        "",
    ),
    "settings wrong": (
        {"config_problems": ("config.toml: [output] fps is 'fast', expected a number",)},
        "[output] fps is 'fast'",
        "",
    ),
    "daemon not running": (
        {"status": None, "nodes": with_ours(holders=())},
        "The daemon is not running",
        "vcam start",
    ),
    "daemon of another version": (
        {"status": with_status(version="0.0.1")},
        f"version 0.0.1, installed is {__version__}",
        "",
    ),
    "daemon in fault": (
        {"status": with_status(state="fault", reason="camera unplugged")},
        "privacy card: camera unplugged",
        "",
    ),
    "a sink that cannot be opened": (
        {"status": with_status(problems=["pipewire: the connection was refused"])},
        "pipewire: the connection was refused",
        "",
    ),
    "an edit of the settings that was not taken": (
        {"status": with_status(config_problem="fps is 'fast'\nThe settings in force stay.")},
        "fps is 'fast'",
        "",
    ),
    "half the frame rate": (
        {"status": with_status(source={"name": "C920", "fps": 10.0, "open": True, "live": True})},
        "C920 grants 10 of 30 frames a second",
        "",
    ),
    "cuda without torch": (
        {
            "config": with_settings(matte_engine="cuda"),
            "status": with_status(engine={**CPU_IN_USE, "problem": f"{NO_TORCH}; as asked"}),
            "gpu": "H100",
            "gpu_problem": NO_TORCH,
        },
        'The settings ask for engine = "cuda", but there is an H100, but torch is not installed.',
        "",
    ),
    "cuda asked, processor used": (
        {
            "config": with_settings(matte_engine="cuda"),
            "status": with_status(engine=CPU_IN_USE),
            "gpu": "H100",
        },
        "The GPU could do the work, in use is CPU",
        "",
    ),
    "cuda could be used and is not": (
        {"status": with_status(engine=CPU_IN_USE), "gpu": "H100"},
        "The GPU could do the work, in use is CPU",
        "",
    ),
    "idle GPU": (
        {"gpu": "H100", "gpu_problem": NO_TORCH, "gpu_remedy": "`pip install torch` brings it."},
        "The GPU lies idle: there is an H100, but torch is not installed.",
        "",
    ),
    "pipewire not running": (
        {"config": with_settings(output_sink="pipewire"), "pipewire": False},
        "PipeWire, which is not running",
        "systemctl --user start pipewire.socket wireplumber.service",
    ),
    "no portal": (
        {"config": with_settings(output_sink="auto,pipewire"), "portal": False},
        "xdg-desktop-portal is not running",
        "systemctl --user start xdg-desktop-portal.service",
    ),
    "portal refused": (
        {"camera_refused_to": ("org.mozilla.firefox",)},
        "refuses the camera to org.mozilla.firefox",
        "gdbus call --session --dest org.freedesktop.impl.portal.PermissionStore "
        "--object-path /org/freedesktop/impl/portal/PermissionStore "
        "--method org.freedesktop.impl.portal.PermissionStore.Delete devices camera",
    ),
    "browser flags": (
        {"config": with_settings(output_sink="pipewire")},
        "Chrome looks for cameras of PipeWire only when told to",
        "",
    ),
    "Fedora's Firefox": (
        {"distribution": "fedora", "config": with_settings(output_sink="v4l2loopback")},
        "Fedora's Firefox does not list",
        "",
    ),
    "Flatpak": (
        {"flatpaks_without_camera": ("us.zoom.Zoom",)},
        "The Flatpak us.zoom.Zoom may not",
        "flatpak override --user --device=all us.zoom.Zoom",
    ),
    "Snap": (
        {"snaps_without_camera": ("zoom-client",)},
        "The Snap zoom-client may not",
        "sudo snap connect zoom-client:camera",
    ),
    "unit points nowhere": ({"unit_command_exists": False}, "program that is not there", INSTALL),
    "unit failed": (
        {"status": None, "unit_failed": True, "nodes": with_ours(holders=())},
        "vcam.service failed",
        "systemctl --user restart vcam.service",
    ),
    "GNOME without the extension": (
        {"tray": False, "desktop": "GNOME"},
        "GNOME shows no tray icons",
        "gnome-extensions enable appindicatorsupport@rgcjonas.gmail.com",
    ),
    "panel without a tray": ({"tray": False}, "This desktop shows no tray icons", ""),
    "Windows without OBS": (
        {"system": "win32", "obs": False, "nodes": (), "module_loaded": False},
        "OBS Studio",
        "powershell -File /opt/vcam/linux.sh",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named_with_its_command(name: str) -> None:
    facts, what, command = FAULTS[name]

    found = run_checks(replace(HEALTHY, **facts))

    named = [finding for finding in found if what in finding.what]
    assert len(named) == 1, [finding.what for finding in found]
    assert named[0].command == command
    assert named[0].why


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_not_told_twice_in_other_words(name: str) -> None:
    facts, what, _ = FAULTS[name]

    others = [f for f in run_checks(replace(HEALTHY, **facts)) if what not in f.what]

    expected = {
        "another writer": ["The daemon is not running."],
        "webcam busy": ["The camera shows the privacy card: camera busy."],
        "browser flags": ["Firefox looks for cameras of PipeWire only when told to."],
    }
    assert [finding.what for finding in others] == expected.get(name, [])


def test_every_command_that_asks_for_root_is_marked_and_no_other() -> None:
    for facts, _, _ in FAULTS.values():
        for finding in run_checks(replace(HEALTHY, **facts)):
            root = "sudo" in finding.command or "vcam/linux.sh" in finding.command
            assert finding.needs_root == root, finding.command


def test_the_worst_comes_first() -> None:
    ill = replace(HEALTHY, status=None, tray=False, nodes=with_ours(exclusive=False, holders=()))

    assert [f.severity for f in run_checks(ill)] == ["error", "warning", "note"]


def test_a_webcam_that_is_closed_while_nobody_watches_is_not_called_slow() -> None:
    asleep = {"name": "C920", "fps": 0.0, "open": False, "live": False}

    assert run_checks(replace(HEALTHY, status=with_status(state="idle", source=asleep))) == []


def test_a_machine_of_which_nothing_is_known_makes_nothing_up() -> None:
    found = run_checks(Surroundings(system="freebsd"))

    assert [finding.what for finding in found] == ["The daemon is not running."]


def test_mending_runs_the_command_itself_without_a_shell(tmp_path: Path) -> None:
    bait = tmp_path / "bait"

    assert mend(Finding("note", "x", "y", f"{sys.executable} -c 'print(1)' ; touch {bait}"))
    assert not mend(Finding("note", "x", "y", "no-such-program-here"))
    assert not mend(Finding("note", "x", "y", "false"))

    assert not bait.exists()


def test_fix_mends_what_needs_no_root_and_leaves_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flatpak, snap = "us.zoom.Zoom", "zoom-client"
    seen = [replace(HEALTHY, flatpaks_without_camera=(flatpak,), snaps_without_camera=(snap,))]
    ran: list[str] = []

    def mended(finding: Finding) -> bool:
        ran.append(finding.command)
        seen[0] = replace(seen[0], flatpaks_without_camera=())
        return True

    monkeypatch.setattr("vcam.doctor.facts.look", lambda: seen[0])
    monkeypatch.setattr(doctor, "mend", mended)

    code = doctor.run(fix=True)

    assert ran == ["flatpak override --user --device=all us.zoom.Zoom"]
    said = capsys.readouterr().out
    assert "sudo snap connect zoom-client:camera" in said
    assert "Flatpak" not in said
    assert code == 0


def test_json_carries_every_finding_and_the_exit_code_tells_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ill = replace(HEALTHY, module_loaded=False, nodes=(WEBCAM,))
    monkeypatch.setattr("vcam.doctor.facts.look", lambda: ill)

    code = doctor.run(json=True)

    answer = json.loads(capsys.readouterr().out)
    assert code == 1
    assert answer["healthy"] is False
    assert answer["findings"][0]["command"] == "sudo modprobe v4l2loopback"
    assert set(answer["findings"][0]) == {"severity", "what", "why", "command", "needs_root"}


def plant(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and /sys as Linux lays them out")
def test_facts_are_read_from_the_places_where_linux_keeps_them(tmp_path: Path) -> None:
    root = tmp_path / "root"
    devices = "sys/devices/virtual/video4linux"
    plant(
        root,
        {
            "proc/sys/kernel/osrelease": "6.1.0-35-amd64\n",
            "etc/os-release": 'ID=ubuntu\nID_LIKE="debian"\nVERSION_ID="24.04"\n',
            "lib/modules/6.1.0-35-amd64/updates/dkms/v4l2loopback.ko.xz": "",
            "sys/module/v4l2loopback/version": "0.13.2\n",
            "sys/module/v4l2loopback/parameters/video_nr": "8,10,-1\n",
            "sys/module/v4l2loopback/parameters/exclusive_caps": "N,Y,N\n",
            "etc/modules-load.d/vcam.conf": "# camera\nv4l2loopback\n",
            "etc/modprobe.d/vcam.conf": "options v4l2loopback exclusive_caps=1\n",
            "etc/modprobe.d/other.conf": "# options v4l2loopback is not set here\n",
            f"{devices}/video8/name": "OBS Virtual Camera\n",
            f"{devices}/video10/name": "VBG Camera\n",
            f"{devices}/video10/format": "YU12:1280x720@30/1\n",
            "sys/devices/pci0/usb1/video4linux/video0/name": "HD Webcam\n",
            "dev/video0": "",
            "dev/video8": "",
            "dev/video10": "",
            "proc/4242/comm": "zoom\n",
            "sys/firmware/efi/efivars/SecureBoot-8be4df61": "\x06\x00\x00\x00\x01",
            "home/.config/systemd/user/vcam.service": "[Service]\nExecStart=%h/vcam start\n",
        },
    )
    (root / "sys/class/video4linux").mkdir(parents=True)
    for link in (*(root / devices).iterdir(), root / "sys/devices/pci0/usb1/video4linux/video0"):
        (root / "sys/class/video4linux" / link.name).symlink_to(link)
    (root / "proc/4242/fd").mkdir()
    (root / "proc/4242/fd/7").symlink_to("/dev/video10")
    environ = {"HOME": str(root / "home"), "XDG_RUNTIME_DIR": str(tmp_path), "USER": "ann"}

    seen = look(root, environ, run=lambda command: None)

    assert seen.kernel in seen.module_kernels
    assert seen.distribution == "ubuntu debian"
    assert seen.module_loaded
    assert seen.module_version == "0.13.2"
    assert seen.module_at_boot
    assert seen.module_options == ("/etc/modprobe.d/vcam.conf",)
    assert seen.secure_boot
    assert [(n.path, n.virtual, n.exclusive) for n in seen.nodes] == [
        ("/dev/video0", False, None),
        ("/dev/video8", True, False),
        ("/dev/video10", True, True),
    ]
    assert seen.ours[0].size == (1280, 720)
    assert seen.ours[0].holders == (Holder(4242, "zoom"),)
    assert seen.unit_file.endswith(".config/systemd/user/vcam.service")
    assert not seen.unit_command_exists
    assert seen.pipewire is False


def test_sandboxed_programs_are_asked_for_their_rights(tmp_path: Path) -> None:
    answers = {
        "flatpak list": "us.zoom.Zoom\ncom.discordapp.Discord\norg.gimp.GIMP\n",
        "flatpak info us.zoom.Zoom": "[Context]\ndevices=dri;\n",
        "flatpak info com.discordapp.Discord": "[Context]\ndevices=all;\n",
        "snap connections": "camera  zoom-client:camera  -  -\ncamera  chromium:camera :camera -\n",
    }

    def answer(command: list[str]) -> str | None:
        return answers.get(" ".join(word for word in command if not word.startswith("-")))

    seen = look(tmp_path, {"HOME": str(tmp_path)}, answer)

    assert seen.flatpaks_without_camera == ("us.zoom.Zoom",)
    assert seen.snaps_without_camera == ("zoom-client",)


def test_this_very_machine_can_be_examined() -> None:
    found = run_checks()

    assert all(finding.what and finding.why for finding in found)


def test_one_fact_is_told_once_and_nobody_is_sent_to_where_they_are() -> None:
    missing = {
        "v4l2loopback": "v4l2loopback: there is no virtual camera\nRun `vcam doctor` to see why.",
        "pipewire": "pipewire: no PipeWire session answers",
    }
    seen = replace(
        HEALTHY,
        status=with_status(sinks=[], missing=missing),
        pipewire=False,
        **NO_MODULE | {"module_kernels": frozenset()},
    )

    found = run_checks(seen)

    assert ["not installed" in finding.what for finding in found] == [True]
    alone = run_checks(replace(HEALTHY, status=with_status(sinks=[], missing=missing)))
    assert [finding.what for finding in alone] == ["v4l2loopback: there is no virtual camera"]
    assert "vcam doctor" not in report(alone).replace("`vcam doctor --fix`", "")
    other = with_status(sinks=[{"name": "VBG Camera"}], missing=missing)
    assert run_checks(replace(HEALTHY, status=other)) == []


def test_during_a_call_by_pipewire_what_else_is_missing_is_a_note() -> None:
    seen = replace(
        HEALTHY,
        status=with_status(sinks=[{"name": "VBG Camera (PipeWire)", "kind": "pipewire"}]),
        **NO_MODULE | {"module_kernels": frozenset(), "nodes": ()},
    )

    found = run_checks(seen)

    assert [(finding.severity, "not installed" in finding.what) for finding in found] == [
        ("note", True)
    ]
    assert "goes to pipewire meanwhile" in found[0].why
    assert "No webcam" not in report(found)  # the daemon reads one, whoever made it


def test_a_session_manager_that_is_gone_is_named_once() -> None:
    status = with_status(sinks=[{"name": "VBG Camera (PipeWire)", "kind": "pipewire"}])
    seen = replace(HEALTHY, status=status, session_manager=False)

    found = run_checks(seen)

    assert [finding.command for finding in found] == [
        "systemctl --user restart wireplumber.service"
    ]
    assert run_checks(replace(seen, session_manager=True)) == []
    assert run_checks(replace(HEALTHY, session_manager=False)) == []  # nothing goes there


def test_the_keeper_is_no_other_program() -> None:
    held = with_ours(holders=(Holder(77, "vcam-keeper"),))
    found = run_checks(replace(HEALTHY, status=None, nodes=held))

    assert [finding.what for finding in found] == ["The daemon is not running."]


def client(name: str) -> str:
    """Words of pw-dump about a session with one client, whose settings name another."""
    module = {"type": "PipeWire:Interface:Module", "info": {"args": "# pipewire-media-session"}}
    props = {"application.name": name}
    return json.dumps([module, {"type": "PipeWire:Interface:Client", "info": {"props": props}}])


@pytest.mark.parametrize(
    ("told", "there"),
    [
        (client("WirePlumber [export]"), True),
        (client("Firefox"), False),
        ("noise", None),
        (None, None),
    ],
)
def test_the_session_manager_is_looked_for_where_pipewire_is(tmp_path, told, there) -> None:
    (tmp_path / "pipewire-0").touch()

    seen = look(
        tmp_path,
        {"XDG_RUNTIME_DIR": str(tmp_path)},
        lambda command: told if command == ["pw-dump"] else None,
    )

    assert seen.session_manager is there
