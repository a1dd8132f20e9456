"""Which of several cameras is taken: by what they send, are called and hang on."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.vcam.driver import Driver, plugged_in
from vcam import cli
from vcam.commands import devices as listing
from vcam.doctor import facts
from vcam.doctor.facts import Surroundings
from vcam.doctor.report import run_checks
from vcam.errors import SourceError
from vcam.sources import resolve
from vcam.sources.decode import RAW, Unpacker
from vcam.sources.webcam import Webcam, choose
from vcam.system import cameras, devices, sensors, v4l2
from vcam.system.devices import READABLE, Mode

HD = [(1280, 720), (640, 480)]


class Machine:
    """Cameras on USB devices and PCI, virtual ones beside them; nodes are numbered as they come."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.drivers = root, []
        (root / "class").mkdir()
        (root / "dev").mkdir()
        monkeypatch.setattr(devices, "SYS", root / "class")
        monkeypatch.setattr(devices, "LINKS", root / "links")
        monkeypatch.setattr(devices, "nodes", lambda: [driver.path for driver in self.drivers])

    def plug(
        self, label: str, formats: str, sizes=HD, *, usb: str = "", interface: str = "",
        driver: str = "uvcvideo", flags: int = v4l2.CAPTURE | v4l2.CAP_STREAMING,
    ) -> Driver:  # fmt: skip
        """A node that sends `formats`; `usb` is its device and interface, as in "1-5:1.0"."""
        name = f"video{len(self.drivers)}"
        modes = {(one.ljust(4), w, h): [30.0] for one in formats.split() for w, h in sizes}
        made = Driver(self.root / "dev" / name, modes)
        made.card, made.name, made.flags = label[:31], driver, flags
        place = self.root / "devices/virtual/video4linux" / name
        if driver != "v4l2 loopback":
            port = usb or f"9-{len(self.drivers)}:1.0"
            place = (
                self.root / "devices/pci/usb1" / port.split(":")[0] / port / "video4linux" / name
            )
        place.mkdir(parents=True)
        (place / "name").write_text(f"{label}\n")
        if driver != "v4l2 loopback":
            (place.parents[1] / "interface").write_text(f"{interface}\n")
            (place / "device").symlink_to(place.parents[1])
        (self.root / "class" / name).symlink_to(place)
        self.drivers.append(made)
        return made

    def names(self) -> list[tuple[str, bool]]:
        return [(Path(c.path).name, c.infrared) for c in devices.list_cameras()]

    def auto(self) -> str:
        return Path(resolve(SimpleNamespace(source="auto"))).name


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    made = Machine(tmp_path, monkeypatch)
    inodes: dict[int, Driver] = {}

    def ioctl(fd: int, request: int, data: object) -> int:
        inodes.update({os.stat(driver.path).st_ino: driver for driver in made.drivers})
        return inodes[os.fstat(fd).st_ino].ioctl(fd, request, data)

    monkeypatch.setattr(v4l2.fcntl, "ioctl", ioctl)
    return made


GREYS = ["GREY", "Y16", "Y8I", "Y10", "GREY Y16", "Y12I Z16"]


@pytest.mark.parametrize("formats", GREYS)
def test_an_infrared_twin_that_comes_first_is_not_taken(machine, formats):
    machine.plug("Integrated Camera", formats, [(640, 360)], usb="1-5:1.2")
    machine.plug("Integrated Camera", "MJPG YUYV", usb="1-5:1.0")

    assert machine.auto() == "video1"
    assert machine.names()[0] == ("video1", False)
    assert [kind for _, kind in machine.names()[1:]] in ([True], [])
    assert cameras.find_camera("Integrated Camera").path.endswith("video1")


@pytest.mark.parametrize(
    ("label", "interface"),
    [
        ("USB2.0 FHD UVC WebCam: USB2.0 IR", ""),
        ("USB2.0 FHD UVC WebCam: USB2.0 I", "USB2.0 IR UVC WebCam"),  # as drivers cut it
        ("Integrated IR Camera", ""),
        ("HP Infrared Camera", ""),
        ("BisonCam,IR", ""),
        ("Chicony: Windows Hello Face", ""),
        ("Lenovo Infra-Red", ""),
    ],
)
def test_an_infrared_twin_that_pretends_colour_is_told_by_its_name(machine, label, interface):
    machine.plug(label, "YUYV MJPG", [(1920, 1080)], usb="1-5:1.2", interface=interface)
    machine.plug("USB2.0 FHD UVC WebCam: USB2.0 F", "MJPG YUYV", usb="1-5:1.0")

    assert machine.names() == [("video1", False), ("video0", True)]
    assert machine.auto() == "video1"


def test_a_twin_without_a_name_of_its_own_goes_by_the_size_of_its_pictures(machine):
    machine.plug("Integrated_Webcam_HD: Integrate", "YUYV", [(640, 360)], usb="1-5:1.2")
    machine.plug("Integrated_Webcam_HD: Integrate", "MJPG", usb="1-5:1.0")
    machine.plug("Another", "MJPG", [(1920, 1080)], usb="1-6:1.0")

    assert machine.auto() == "video1"  # of the device that comes first


def test_a_products_name_does_not_make_all_its_sensors_infrared(machine):
    machine.plug("RGB IR Camera", "GREY", [(640, 360)], usb="1-5:1.2")
    machine.plug("RGB IR Camera", "MJPG", usb="1-5:1.0")

    assert machine.names() == [("video1", False), ("video0", True)]


@pytest.mark.parametrize(
    "name", ["AIRE Cam", "Mirror HD", "FIREFLY", "Virtual", "Air 4K: Air", "IRIS Cam"]
)
def test_other_words_with_these_letters_are_no_infrared(machine, name):
    machine.plug(name, "MJPG")

    assert machine.names() == [("video0", False)]


def test_an_infrared_camera_alone_is_better_than_none(machine, caplog):
    machine.plug("IR Camera", "GREY", [(640, 360)])

    assert machine.auto() == "video0"
    assert "only infrared" in caplog.text


def test_a_camera_that_may_not_be_opened_comes_after_one_that_may(machine):
    machine.plug("Closed", "MJPG").refuse[v4l2.QUERYCAP] = 13
    machine.plug("Open", "MJPG")

    assert machine.auto() == "video1"
    assert [c.problem for c in devices.list_cameras()] == ["", "Permission denied"]


def test_a_node_of_packets_beside_a_camera_is_not_listed(machine):
    machine.plug("C930e", "MJPG YUYV", usb="1-5:1.0")
    machine.plug("C930e", "H264", usb="1-5:1.1")

    assert machine.names() == [("video0", False)]


@pytest.mark.parametrize("formats", ["H264", "HEVC", "M420", "H264 VP80", "Y8I"])
def test_what_cannot_be_decoded_is_refused_by_name_and_never_taken(machine, formats, capsys):
    machine.plug("Strange Cam", formats)

    assert machine.auto() == "demo"
    with pytest.raises(SourceError) as told:
        cameras.find_camera("Strange")
    listing.listed(as_json=False)

    said = f"Strange Cam sends {', '.join(formats.split())} alone, which cannot be decoded"
    assert said in str(told.value)
    assert "MJPG" in told.value.hint
    assert said.removeprefix("Strange Cam ") in capsys.readouterr().out
    with pytest.raises(SourceError, match="alone, which cannot be decoded"):
        cameras.find_camera(str(machine.drivers[0].path))


def test_sizes_and_intervals_of_nothing_are_skipped(machine):
    driver = machine.plug("Odd Cam", "YUYV", [(0, 0), (641, 480), (640, 0), (99_998, 99_998), *HD])
    driver.modes["YUYV", 1280, 720] = [0.0, 30.0]
    driver.modes["YUYV", 640, 480] = [0.0]

    (found,) = devices.list_cameras()

    assert found.formats == (Mode("YUYV", 1280, 720, (30.0,)), Mode("YUYV", 640, 480))
    for fps in (1, 30, 60):
        assert choose(found.formats, 640, 480, fps, "auto").width in (640, 1280)


def test_an_interval_of_nought_seconds_and_one_of_a_nanosecond_are_no_rates(machine, monkeypatch):
    driver = machine.plug("Odd Cam", "YUYV", [(640, 480)])
    answers = [(0, 30), (1, 0), (1, 1_000_000_000), (1, 30)]

    def rates(data: bytearray) -> None:
        (index,) = struct.unpack_from("<I", data)
        if index >= len(answers):
            raise OSError(22, "no more")
        struct.pack_into("<III", data, 16, 1, *answers[index])

    monkeypatch.setattr(driver, "_rates", rates)

    assert devices.list_cameras()[0].formats[0].rates == (30.0,)


def test_a_camera_with_a_range_of_sizes_that_holds_no_usual_one_gives_its_largest(machine):
    machine.plug("Square", "YUYV")

    assert devices._sizes(96, 400, 2, 96, 400, 2) == [(320, 240)]
    assert devices._sizes(300, 400, 2, 300, 400, 2) == [(400, 400)]
    assert devices._sizes(0, 0, 1, 0, 0, 1) == []
    assert devices._sizes(1, 2**32 - 1, 1, 1, 2**32 - 1, 1)[0] == (320, 240)


PLAIN = v4l2.CAPTURE | v4l2.CAP_STREAMING
ISYS = PLAIN | v4l2.CAP_IO_MC
RAW_NODES = {
    "upstream IPU6": ("Intel IPU6 ISYS Capture 0", "BA10 RG10 GREY", "isys", ISYS, "Intel IPU6"),
    "vendor IPU6": ("ipu6", "BA10", "intel-ipu6-isys", 0x1000 | v4l2.CAP_STREAMING, "Intel IPU6"),
    "IPU3": ("ipu3-cio2 0", "ip3b ip3g", "ipu3-cio2", PLAIN, "Intel IPU3"),
    "unknown": ("mystery", "RGGB BG10", "foo", PLAIN, "a media controller"),
}  # fmt: skip


@pytest.mark.parametrize("kind", RAW_NODES)
def test_sensors_that_need_libcamera_are_named_and_never_taken(machine, kind, capsys, monkeypatch):
    label, formats, driver, flags, what = RAW_NODES[kind]
    for _ in range(24):
        machine.plug(label, formats, driver=driver, flags=flags, usb="0000")

    assert machine.auto() == "demo"
    assert devices.list_sensors() == {what: 24}
    listing.listed(as_json=False)
    assert f"{what}: 24 nodes" in capsys.readouterr().out
    with pytest.raises(SourceError, match=f"a sensor behind {what}") as told:
        cameras.find_camera(str(machine.drivers[3].path))
    assert "v4l2-relayd" in told.value.hint

    monkeypatch.setattr(facts, "_capabilities", lambda p: devices.capabilities_of(p)[0])
    monkeypatch.setattr(facts, "formats_of", lambda path: tuple(formats.split()))
    root = machine.root
    (root / "sys/class").mkdir(parents=True)
    (root / "sys/class/video4linux").symlink_to(root / "class")
    seen = Surroundings(nodes=tuple(facts._nodes(root)))
    found = [one for one in run_checks(seen) if what in one.what]
    assert [(one.severity, "v4l2-relayd" in one.why) for one in found] == [("warning", True)]
    assert not [one for one in run_checks(seen) if "No webcam" in one.what]


def test_an_ordinary_camera_on_such_a_machine_is_taken(machine):
    machine.plug("Intel IPU6 ISYS Capture 0", "BA10", driver="isys", flags=ISYS, usb="0000")
    machine.plug("Logitech IPU6 Edition", "MJPG")

    assert machine.auto() == "video1"


@pytest.fixture
def phone(machine) -> Driver:
    machine.plug("Webcam", "MJPG")
    machine.plug("VBG Camera", "YU12", driver="v4l2 loopback")
    return machine.plug("DroidCam", "YU12", [(640, 480)], driver="v4l2 loopback")


def test_a_telephones_virtual_camera_is_chosen_by_name_and_never_by_itself(machine, phone):
    assert cameras.find_camera("droidcam").path == str(phone.path)
    assert cameras.find_camera(str(phone.path)).virtual
    assert machine.names() == [("video0", False)]
    assert [c.name for c in devices.list_sources()] == ["Webcam", "DroidCam"]
    machine.drivers = machine.drivers[1:]
    assert machine.auto() == "demo"


def test_a_telephone_that_sends_nothing_yet_says_so(phone):
    phone.flags = v4l2.OUTPUT

    with pytest.raises(SourceError, match="no program feeds") as told:
        cameras.find_camera(str(phone.path))
    assert "DroidCam" in told.value.hint


@pytest.mark.parametrize("way", ["VBG Camera", "vbg", "video1", "1", "path"])
def test_our_own_camera_is_never_a_source(machine, phone, way):
    with pytest.raises(SourceError, match="itself"):
        cameras.find_camera(str(machine.drivers[1].path) if way == "path" else way)


def test_a_virtual_camera_that_we_write_to_under_any_name_is_no_source(phone):
    with phone.path.open("r+b"), pytest.raises(SourceError, match="where the picture goes"):
        Webcam("DroidCam", 640, 480, 30).__enter__()


def test_numbers_and_node_names_are_understood(machine):
    machine.plug("HD Pro Webcam C920", "MJPG")
    machine.plug("Second", "MJPG")

    assert cameras.find_camera("1").name == "Second"
    assert cameras.find_camera("video0").name == "HD Pro Webcam C920"
    with pytest.raises(SourceError):
        cameras.find_camera("9")  # which is in a name, and still no camera's number


def test_a_name_that_is_almost_right_is_offered(machine):
    machine.plug("HD Pro Webcam C920", "MJPG")

    with pytest.raises(SourceError, match="did you mean 'HD Pro Webcam C920'"):
        cameras.find_camera("HD Pro Webcm C920")


W, H = 64, 48


def planes(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y and 4:2:0 chroma of a picture that changes slowly."""
    rng = np.random.default_rng(seed)
    return (
        rng.integers(16, 236, (H, W), np.uint8),
        rng.integers(16, 240, (H // 2, W // 2), np.uint8),
        rng.integers(16, 240, (H // 2, W // 2), np.uint8),
    )


def packed(kind: str, y: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The picture as a camera of that kind sends it."""
    u2, v2 = np.repeat(u, 2, 0), np.repeat(v, 2, 0)
    fours = [y[:, ::2], u2, y[:, 1::2], v2]
    return {
        "YUYV": lambda: np.dstack(fours),
        "UYVY": lambda: np.dstack([fours[i] for i in (1, 0, 3, 2)]),
        "NV12": lambda: np.concatenate([y.reshape(-1), np.dstack([u, v]).reshape(-1)]),
        "NV21": lambda: np.concatenate([y.reshape(-1), np.dstack([v, u]).reshape(-1)]),
        "YU12": lambda: np.concatenate([p.reshape(-1) for p in (y, u, v)]),
        "YV12": lambda: np.concatenate([p.reshape(-1) for p in (y, v, u)]),
        "GREY": lambda: y,
    }[kind]().reshape(-1)


YUV = [kind for kind in RAW if kind not in ("RGB3", "BGR3")]


def test_every_format_that_is_listed_as_readable_can_be_decoded():
    assert set(READABLE) == {"MJPG", "JPEG", *RAW}
    assert not set(READABLE) & sensors.BAYER


@pytest.mark.parametrize("as_packed", [False, True])
@pytest.mark.parametrize("kind", YUV)
def test_raw_pictures_become_the_very_planes(kind, as_packed):
    y, u, v = planes()
    unpack = Unpacker(W, H)
    unpack.packed = as_packed

    seen = unpack.take(kind, packed(kind, y, u, v))

    assert np.array_equal(seen.y, y)
    assert seen.full_range == (kind == "GREY")  # a sensor's own levels, from 0 to 255
    for got, wanted in zip(seen.each[1:], (u, v), strict=True):
        if kind == "GREY":
            wanted = np.full((H // 2, W // 2), 128)
        elif kind in ("YUYV", "UYVY"):
            wanted = np.repeat(wanted, 2, 0)
        assert np.array_equal(got, wanted)


COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255,) * 3}
BT601 = {"red": (81, 90, 240), "green": (145, 54, 34), "blue": (41, 240, 110)}
BT601["white"] = (235, 128, 128)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("kind", ["RGB3", "BGR3"])
def test_rgb_becomes_limited_range_bt601(kind, colour):
    picture = np.full((H, W, 3), COLOURS[colour], np.uint8)
    if kind == "BGR3":
        picture = picture[..., ::-1]

    planes = Unpacker(W, H).take(kind, np.ascontiguousarray(picture).reshape(-1))

    assert not planes.full_range
    for plane, wanted in zip(planes.each, BT601[colour], strict=True):
        assert abs(plane.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("kind", RAW)
def test_a_raw_picture_that_is_cut_short_is_an_error(kind):
    with pytest.raises(SourceError, match=kind):
        Unpacker(W, H).take(kind, np.zeros(W * H * RAW[kind][0] // RAW[kind][1] - 1, np.uint8))


def padded(kind: str, data: np.ndarray, pad: int) -> np.ndarray:
    """With bytes after each line, and half of them after each line of separate chroma."""
    line = {"YUYV": 2, "UYVY": 2}.get(kind, 1) * W
    head = data[: line * H].reshape(H, line)
    parts = [np.pad(head, ((0, 0), (0, pad))).reshape(-1)]
    rest = data[line * H :]
    if kind in ("NV12", "NV21"):
        parts.append(np.pad(rest.reshape(H // 2, W), ((0, 0), (0, pad))).reshape(-1))
    elif rest.size:
        parts.append(np.pad(rest.reshape(H, W // 2), ((0, 0), (0, pad // 2))).reshape(-1))
    return np.concatenate(parts)


@pytest.mark.parametrize("pad", [0, 32])
@pytest.mark.parametrize("kind", YUV)
def test_a_camera_of_each_format_is_read_with_and_without_padding(tmp_path, monkeypatch, kind, pad):
    y, u, v = planes()
    driver = Driver(tmp_path / "video7", {(kind, W, H): [30.0]})
    driver.padding = pad
    with plugged_in(driver, monkeypatch), Webcam(str(driver.path), W, H, 30) as source:
        driver.pictures = [padded(kind, packed(kind, y, u, v), pad).tobytes()]
        frame = source.read(1)

    assert frame is not None
    assert source.format == kind
    assert np.array_equal(frame.planes.y, y)
    if kind != "GREY":
        rows = frame.planes.u.shape[0] // u.shape[0]
        assert np.array_equal(frame.planes.u[::rows], u)
        assert np.array_equal(frame.planes.v[::rows], v)


def test_a_virtual_cameras_rate_is_left_as_it_is(tmp_path, monkeypatch):
    driver = Driver(tmp_path / "video7", {("YU12", W, H): [30.0]})
    asked = []
    monkeypatch.setattr(v4l2, "set_rate", lambda *words: asked.append(words) or 0.0)
    info = cameras.find_camera
    with plugged_in(driver, monkeypatch):
        monkeypatch.setattr(
            "vcam.sources.webcam.find_camera", lambda name: replace(info(name), virtual=True)
        )
        with Webcam(str(driver.path), W, H, 15) as source:
            assert source.fps == 30

    assert asked == []


def test_a_colour_picture_is_taken_before_a_larger_grey_one():
    modes = [Mode("GREY", 1280, 720, (60.0,)), Mode("YUYV", 640, 360, (15.0,))]

    assert choose(modes, 1280, 720, 30, "auto") == modes[1]


def test_the_list_says_which_camera_is_infrared(machine, capsys):
    machine.plug("IR Camera", "GREY", [(640, 360)])

    assert cli.main(["devices"]) == 0
    assert "infrared" in capsys.readouterr().out
