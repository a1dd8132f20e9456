"""Which cameras there are: a tree that looks like the kernel's, and the words for a person."""

from __future__ import annotations

import errno
import json
import os
import re
import sys

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from tests.vcam.driver import Driver, plugged_in
from vcam.commands import devices as listing
from vcam.errors import SourceError
from vcam.settings.config import load
from vcam.system import cameras, controls, devices, v4l2
from vcam.system.devices import CameraInfo, Holder, Mode, VirtualCameraInfo

C920 = CameraInfo(
    "HD Pro Webcam C920",
    "/dev/video2",
    "/dev/v4l/by-id/usb-046d_HD_Pro_Webcam_C920-video-index0",
    (Mode("MJPG", 1280, 720, (30.0,)),),
    ("brightness",),
    (Holder(17, "zoom"),),
)
BUILT_IN = CameraInfo("Integrated Camera", "/dev/video0", "/dev/video0")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """/sys and /dev with a webcam's two nodes, our loopback device and another's."""
    real, virtual = tmp_path / "devices/pci/usb1", tmp_path / "devices/virtual/video4linux"
    sys, dev = tmp_path / "class", tmp_path / "v4l"
    nodes = {
        "video0": (real, "Integrated Camera", v4l2.CAPTURE | v4l2.CAP_STREAMING, "uvcvideo"),
        "video1": (real, "Integrated Camera", 0x00A00000, "uvcvideo"),
        "video10": (virtual, "VBG Camera", v4l2.OUTPUT, "v4l2 loopback"),
        "video9": (virtual, "OBS Camera", v4l2.CAPTURE, "v4l2 loopback"),
    }
    sys.mkdir()
    for name, (place, label, _, _) in nodes.items():
        (place / name).mkdir(parents=True)
        (place / name / "name").write_text(label + "\n")
        (place / name / "index").write_text("0\n" if name != "video1" else "1\n")
        (sys / name).symlink_to(place / name)
    (virtual / "video9/format").write_text("YU12:1280x720@30\n")
    (dev / "by-id").mkdir(parents=True)
    (dev / "by-id/usb-Integrated-video-index0").symlink_to("/dev/video0")
    monkeypatch.setattr(devices, "SYS", sys)
    monkeypatch.setattr(devices, "LINKS", dev)

    def ask(path):
        _, label, flags, driver = nodes[path.name]
        return v4l2.Capabilities(driver, label, "bus", flags), ""

    monkeypatch.setattr(devices, "capabilities_of", ask)
    monkeypatch.setattr(devices, "_modes", lambda path: C920.formats)
    return nodes


@pytest.mark.usefixtures("machine")
def test_webcams_are_listed_without_their_other_nodes_and_without_virtual_cameras():
    (camera,) = devices.list_cameras()

    assert (camera.name, camera.path) == ("Integrated Camera", "/dev/video0")
    assert camera.stable.endswith("by-id/usb-Integrated-video-index0")


@pytest.mark.usefixtures("machine")
def test_ours_comes_first_among_virtual_cameras():
    ours, other = devices.list_virtual_cameras()

    assert (ours.path, ours.ours, ours.ready) == ("/dev/video10", True, False)
    assert (other.name, other.ours, other.ready) == ("OBS Camera", False, True)
    assert (other.width, other.height) == (1280, 720)


def test_a_stuck_virtual_camera_says_so(machine):
    machine["video10"] = (None, "VBG Camera", 0, "v4l2 loopback")

    assert "stuck" in devices.list_virtual_cameras()[0].problem


@pytest.mark.usefixtures("machine")
def test_a_webcam_that_may_not_be_opened_is_listed_with_the_reason(monkeypatch):
    monkeypatch.setattr(devices, "capabilities_of", lambda path: (None, "Permission denied"))

    (camera,) = devices.list_cameras()

    assert camera.path == "/dev/video0"
    assert camera.problem == "Permission denied"


@pytest.mark.parametrize(
    "selector", ["HD Pro Webcam C920", "hd pro webcam c920", "C920", os.path.basename(C920.stable)]
)
def test_a_camera_is_found_by_name_part_of_it_or_stable_name(monkeypatch, selector):
    monkeypatch.setattr(devices, "list_cameras", lambda: [BUILT_IN, C920])

    assert cameras.find_camera(selector) is C920


def test_a_camera_that_is_not_there_names_those_that_are(monkeypatch):
    monkeypatch.setattr(devices, "list_cameras", lambda: [BUILT_IN])

    with pytest.raises(SourceError, match="connected: 'Integrated Camera'") as told:
        cameras.find_camera("C920")
    assert "vcam devices" in told.value.hint


@pytest.mark.usefixtures("machine")
def test_our_own_virtual_camera_is_no_webcam(monkeypatch):
    monkeypatch.setattr(devices.os.path, "exists", lambda path: True)

    with pytest.raises(SourceError, match="itself"):
        cameras.find_camera("/dev/video10")
    assert cameras.find_camera("/dev/video9").name == "OBS Camera"


def test_who_holds_a_file_is_named(tmp_path):
    file = tmp_path / "node"
    with file.open("w"):
        (holder,) = devices.holders(file)

    assert holder.pid == os.getpid()
    assert holder.name
    assert devices.holders(file) == []


def test_the_list_for_people_says_what_to_know(monkeypatch, capsys):
    other = VirtualCameraInfo("VBG Camera", "/dev/video10", True, False, problem="stuck")
    monkeypatch.setattr(devices, "list_cameras", lambda: [C920])
    monkeypatch.setattr(devices, "list_virtual_cameras", lambda: [other])

    assert listing.listed(as_json=False) == 0

    told = capsys.readouterr().out
    assert "HD Pro Webcam C920  /dev/video2  in use by zoom (17)" in told
    assert "MJPG: 1280x720@30" in told
    assert "not fed" in told
    assert "stuck" in told


def test_the_list_for_programs_is_json(monkeypatch, capsys):
    monkeypatch.setattr(devices, "list_cameras", lambda: [C920])
    monkeypatch.setattr(devices, "list_virtual_cameras", list)

    assert listing.listed(as_json=True) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["cameras"][0]["holders"] == [{"pid": 17, "name": "zoom"}]
    assert told["virtual"] == []


def test_nothing_there_says_what_happens_then(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(devices, "SYS", tmp_path / "none")

    assert listing.listed(as_json=False) == 0

    told = capsys.readouterr().out
    assert "demo picture" in told
    assert "vcam doctor" in told


@pytest.fixture
def driver(tmp_path, monkeypatch):
    made = Driver(tmp_path / "video7", {("YUYV", 320, 240): [30.0]})
    with plugged_in(made, monkeypatch):
        yield made


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Settings of our own, and no daemon."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "config/vcam/config.toml"


def test_a_control_is_set_by_name_and_kept_for_its_camera_alone(driver, home, monkeypatch, capsys):
    home.parent.mkdir(parents=True)
    home.write_text("[camera]\n# mine\ncontrols = { brightness = 7 }\n")
    camera = CameraInfo("Test Camera", str(driver.path), str(driver.path))
    monkeypatch.setattr(devices, "list_cameras", lambda: [camera])

    for wish in ("brightness=140", "auto_exposure=1"):
        assert listing.set_controls([wish], None) == 0

    assert (driver.knobs[0x980900][4], driver.knobs[0x9A0901][4]) == (140, 1)
    assert "brightness = 140" in capsys.readouterr().out
    kept = tomllib.loads(home.read_text())["camera"]["controls"]
    assert kept == {"brightness": 7, "Test Camera": {"brightness": 140, "auto_exposure": 1}}
    assert "# mine" in home.read_text()
    kept_now = load().camera.controls
    assert controls.controls_for(camera, kept_now) == {"brightness": 140, "auto_exposure": 1}
    assert controls.controls_for(BUILT_IN, kept_now) == {"brightness": 7}


def test_of_two_cameras_of_one_name_each_keeps_its_own(driver, home, monkeypatch):
    twins = [CameraInfo("Twin", str(driver.path), f"/dev/v4l/by-path/usb-{n}") for n in (1, 2)]
    monkeypatch.setattr(devices, "list_cameras", lambda: twins)

    listing.set_controls(["brightness=5"], None)

    assert tomllib.loads(home.read_text())["camera"]["controls"] == {"usb-1": {"brightness": 5}}
    assert controls.controls_for(twins[0], load().camera.controls) == {"brightness": 5}
    assert controls.controls_for(twins[1], load().camera.controls) == {}


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ("zoom=3", "no control 'zoom'; it has brightness, auto_exposure"),
        ("brightness=256", "brightness is 256, expected a number from 0 to 255"),
        ("brightness", "brightness is '', expected"),
        ("brightness=high", "brightness is 'high', expected"),
    ],
)
def test_a_control_that_cannot_be_is_refused_and_nothing_kept(driver, home, wish, words):
    with pytest.raises(SourceError, match=re.escape(words)) as told:
        listing.set_controls([wish], str(driver.path))

    assert told.value.hint
    assert not home.exists()


def test_a_control_that_the_driver_refuses_is_an_error_and_is_not_kept(driver, home):
    driver.refuse[v4l2.S_CTRL] = errno.EACCES

    with pytest.raises(SourceError, match="brightness cannot be set: Permission denied"):
        listing.set_controls(["brightness=5"], str(driver.path))
    assert not home.exists()
