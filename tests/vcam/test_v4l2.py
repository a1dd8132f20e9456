"""Structs and plain functions of V4L2, and hearing what happens to files."""

from __future__ import annotations

import errno
import gc
import os
import struct
import threading
import time

import pytest

from tests.vcam.driver import Driver
from vcam.system import v4l2
from vcam.system.devices import Mode, modes_of

MODES = {("MJPG", 1280, 720): [30.0, 15.0], ("YUYV", 640, 480): [], ("GREY", 64, 64): [9.0]}


@pytest.fixture
def driver(tmp_path, monkeypatch):
    made = Driver(tmp_path / "video7", MODES)
    monkeypatch.setattr(v4l2.fcntl, "ioctl", made.ioctl)
    return made


def test_a_pixel_format_is_four_letters_and_a_number():
    assert v4l2.fourcc("YU12") == 0x32315559
    assert v4l2.fourcc_name(v4l2.fourcc("MJPG")) == "MJPG"


def test_numbers_of_requests_carry_the_size_of_their_structs():
    sizes = {
        v4l2.QUERYCAP: 104, v4l2.ENUM_FMT: 64, v4l2.S_FMT: 208, v4l2.REQBUFS: 20, v4l2.QBUF: 88,
        v4l2.S_PARM: 204, v4l2.S_CTRL: 8, v4l2.QUERYCTRL: 68, v4l2.ENUM_FRAMESIZES: 44,
        v4l2.ENUM_FRAMEINTERVALS: 52, v4l2.DQEVENT: 136, v4l2.SUBSCRIBE_EVENT: 32,
    }  # fmt: skip

    for request, size in sizes.items():
        assert request >> 16 & 0x3FFF == size
        assert request >> 8 & 0xFF == ord("V")


@pytest.mark.usefixtures("driver")
def test_a_node_says_what_it_is():
    known = v4l2.capabilities(3)

    assert (known.driver, known.card, known.loopback) == ("uvcvideo", "Test Camera", False)
    assert known.captures
    assert not known.outputs


@pytest.mark.usefixtures("driver")
def test_every_readable_mode_is_listed_with_its_rates():
    assert modes_of(3) == [
        Mode("MJPG", 1280, 720, (30.0, 15.0)),
        Mode("YUYV", 640, 480, ()),
        Mode("GREY", 64, 64, (9.0,)),
    ]


def test_a_range_of_sizes_lists_the_usual_ones_inside(driver, monkeypatch):
    def stepwise(data):
        if struct.unpack_from("<I", data)[0]:
            raise OSError(errno.EINVAL, "no more")
        struct.pack_into("<7I", data, 8, 3, 32, 1280, 16, 32, 720, 8)

    driver.modes = {("NV12", 0, 0): []}
    monkeypatch.setattr(driver, "_sizes", stepwise)
    monkeypatch.setattr(driver, "_rates", lambda data: (_ for _ in ()).throw(OSError(22, "no")))

    sizes = {(mode.width, mode.height) for mode in modes_of(3)}

    assert {(640, 360), (640, 480), (1280, 720)} <= sizes
    assert (1920, 1080) not in sizes


@pytest.mark.usefixtures("driver")
def test_a_control_is_named_as_v4l2_ctl_names_it():
    names = {control.name: control for control in v4l2.controls(3)}

    assert set(names) == {"brightness", "auto_exposure"}
    assert (names["brightness"].minimum, names["brightness"].maximum) == (0, 255)
    assert names["auto_exposure"].kind == "menu"
    assert v4l2.set_control(3, names["brightness"].id, 9) == 9
    assert v4l2.get_control(3, names["brightness"].id) == 9


def test_a_menu_has_the_choices_that_the_driver_knows(driver):
    names = {control.name: control for control in v4l2.controls(3)}

    assert names["auto_exposure"].choices == ((1, "Manual Mode"), (3, "Aperture Priority Mode"))
    assert names["brightness"].choices == ()

    driver.knobs[0x980918] = ["Power Line Frequency", 9, 0, 2, 1]  # a menu of numbers
    driver.choices = {0: "50", 2: "60"}
    names = {control.name: control for control in v4l2.controls(3)}
    assert names["power_line_frequency"].choices == ((0, "50"), (2, "60"))


def test_a_rate_that_the_driver_has_no_say_in_is_zero(driver):
    driver.refuse[v4l2.S_PARM] = errno.ENOTTY
    assert v4l2.set_rate(3, v4l2.CAPTURE, 30) == 0

    driver.refuse[v4l2.S_PARM] = errno.ENODEV
    with pytest.raises(OSError, match="No such device"):
        v4l2.set_rate(3, v4l2.CAPTURE, 30)


def test_a_device_that_goes_away_while_asked_is_an_error_and_not_an_end_of_list(driver):
    driver.refuse[v4l2.ENUM_FMT] = errno.ENODEV

    with pytest.raises(OSError, match="No such device"):
        list(v4l2.pixel_formats(3))


@pytest.mark.usefixtures("driver")
def test_an_event_that_the_driver_does_not_know_is_not_subscribed():
    assert not v4l2.subscribe(3, v4l2.CLIENT_USAGE)


def test_inotify_hears_who_opens_and_closes_a_file(tmp_path):
    file = tmp_path / "node"
    file.touch()
    ears = v4l2.Inotify(file, v4l2.IN_OPEN | v4l2.IN_CLOSE_NOWRITE)

    os.close(os.open(file, os.O_RDONLY))

    heard = [mask for mask, _ in ears.heard(1)]
    ears.close()
    assert heard == [v4l2.IN_OPEN, v4l2.IN_CLOSE_NOWRITE]
    assert ears.heard() == []


def test_inotify_on_nothing_is_an_error_and_leaves_nothing_open(tmp_path):
    gc.collect()  # what other tests left lying about is closed now, not in between
    before = len(os.listdir("/proc/self/fd"))

    with pytest.raises(FileNotFoundError):
        v4l2.Inotify(tmp_path / "none", v4l2.IN_OPEN)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_new_video_node_wakes_who_waits(tmp_path):
    threading.Timer(0.1, (tmp_path / "video3").touch).start()
    begun = time.monotonic()

    assert v4l2.wait_for_nodes(10, tmp_path)
    assert time.monotonic() - begun < 9


def test_other_files_wake_nobody_and_a_missing_directory_only_waits(tmp_path):
    (tmp_path / "null").touch()

    assert not v4l2.wait_for_nodes(0.05, tmp_path)
    assert not v4l2.wait_for_nodes(0.05, tmp_path / "none")
