"""What the tray says and asks, without a desktop."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from desktop import until
from play import FileDaemon
from pystray import Menu

from vcam.errors import DaemonError, VcamError
from vcam.system.devices import CameraInfo
from vcam.tray import app, icons
from vcam.tray.view import View, nearest_light, news, view


class QuietIcon:
    """Keeps what a desktop would show."""

    HAS_NOTIFICATION = True

    def __init__(self, name: str, icon: Any, title: str, menu: Menu) -> None:
        self.icon, self.title, self.menu = icon, title, menu
        self.visible = False
        self.told: list[tuple[str, str]] = []
        self._ended = threading.Event()

    def run(self, setup: Any) -> None:
        worker = threading.Thread(target=setup, args=(self,))
        worker.start()
        self._ended.wait()
        worker.join()

    def stop(self) -> None:
        self._ended.set()

    def update_menu(self) -> None:
        pass

    def notify(self, message: str, title: str) -> None:
        self.told.append((title, message))


class Running:
    """A tray with a quiet icon, looked at from outside."""

    def __init__(self, held: Any) -> None:
        self.held = held
        cameras = [("C920", "C920")]
        self.tray = app.Tray(QuietIcon, lambda: FileDaemon(held.path), lambda: cameras, 0.01)
        self._thread = threading.Thread(target=self.tray.run)
        self._thread.start()

    @property
    def icon(self) -> QuietIcon:
        icon: QuietIcon = self.tray.icon
        return icon

    def entry(self, *titles: str) -> Any:
        entries: Any = self.icon.menu
        found = None
        for title in titles:
            found = next(e for e in entries if str(e.text).startswith(title))
            entries = found.submenu
        return found

    def click(self, *titles: str) -> None:
        self.entry(*titles)(self.icon)

    def close(self) -> None:
        self.tray.stop()
        self._thread.join(5)
        assert not self._thread.is_alive()


@pytest.fixture
def running(held: Any) -> Iterator[Running]:
    running = Running(held)
    until(lambda: running.tray.view.running)
    yield running
    running.close()


def setting(running: Running, section: str, key: str) -> Any:
    return running.held.read()["settings"][section][key]


def test_every_wish_in_the_menu_reaches_the_daemon(running: Running) -> None:
    running.click("Background", "Loft")
    assert setting(running, "background", "use") == "loft"

    running.click("Background", "Next")
    assert setting(running, "background", "use") == "dusk"
    running.click("Background", "Previous")
    assert setting(running, "background", "use") == "loft"

    running.click("Blur strength", "Strong")
    assert setting(running, "background", "use") == "blur"
    assert setting(running, "background", "blur") == 75

    running.click("Camera", "C920")
    assert setting(running, "camera", "source") == "C920"

    running.click("Camera", "Mirror my preview")
    assert setting(running, "control", "mirror_preview") is False
    assert setting(running, "camera", "mirror") is False
    running.click("Camera", "Flip what others see")
    assert setting(running, "camera", "mirror") is True

    running.click("Freeze")
    assert running.held.read()["status"]["state"] == "frozen"

    running.click("Stop the camera")
    until(lambda: not running.tray.view.running)


def test_the_menu_marks_what_is_chosen_now(running: Running) -> None:
    told = running.held.read()
    told["settings"]["background"]["use"] = "blur:80"
    told["settings"]["camera"]["mirror"] = True
    running.held.write(told)
    until(lambda: running.tray.view.mirror)

    backgrounds = [e.text for e in running.entry("Background").submenu if e.checked]
    strengths = [e.text for e in running.entry("Blur strength").submenu if e.checked]

    assert backgrounds == ["Blur my room"]
    assert strengths == ["Strong"]
    assert running.entry("Camera", "Flip what others see").checked
    assert running.entry("Camera", "Mirror my preview").checked


def test_light_framing_and_another_picture_each_day_are_chosen_in_the_menu(running: Running):
    for title, percent in (("Strong", 80), ("Off", 0), ("Mild", 40)):
        running.click("Light", title)
        assert setting(running, "look", "light") == percent
    for title, name in (("Head", "head-and-shoulders"), ("Close", "close")):
        running.click("Framing", title)
        assert setting(running, "look", "framing") == name
    until(lambda: running.tray.view.framing == "close")

    assert [e.text for e in running.entry("Light").submenu if e.checked] == ["Mild"]
    assert [e.text for e in running.entry("Framing").submenu if e.checked] == ["Close-up"]

    told = running.held.read()
    told["presets"].append({"name": "daily", "mine": False})
    told["status"]["presets_stamp"] = "new"
    running.held.write(told)
    until(lambda: "daily" in dict(running.tray.view.presets))
    running.click("Background", "Surprise me")
    assert setting(running, "background", "use") == "daily"


def test_a_light_of_ones_own_is_marked_as_the_nearest_and_never_as_off():
    strengths = [nearest_light(percent) for percent in (0, 1, 40, 59, 61, 100)]

    assert strengths == [0, 40, 40, 40, 80, 80]


def test_a_name_tag_is_switched_and_the_page_is_where_it_is_written(running: Running):
    running.click("Name tag …")
    assert running.held.read()["opened"] == 1

    told = running.held.read()
    told["settings"]["overlay"] = {"name": "Anna", "show": True}
    running.held.write(told)
    until(lambda: running.tray.view.tagged)
    running.click("Name tag")
    assert setting(running, "overlay", "show") is False
    until(lambda: not running.tray.view.tagged)
    assert not running.entry("Name tag").checked

    running.click("Name tag")
    assert setting(running, "overlay", "show") is True


def test_a_pause_with_a_countdown_says_for_how_long(running: Running):
    running.click("Be right back", "in 10")
    until(lambda: running.tray.view.state == "paused")
    assert running.held.read()["status"]["back_in_s"] == 600

    assert running.tray.view.headline == "Paused: the card says you are back in 10 min"
    running.held.becomes(back_in_s=0)
    until(lambda: "Back soon" in running.tray.view.headline)


def test_a_picture_of_ones_own_is_shown_by_its_file_name(running: Running) -> None:
    told = running.held.read()
    told["settings"]["background"]["use"] = "/home/ann/Pictures/sea.jpg"
    running.held.write(told)

    until(lambda: running.tray.view.background.endswith("sea.jpg"))

    assert running.entry("Background", "sea.jpg").checked


def test_without_a_daemon_the_menu_offers_to_start_it(running: Running) -> None:
    running.held.path.unlink()

    until(lambda: not running.tray.view.running)

    assert [str(entry.text) for entry in running.icon.menu if entry is not Menu.SEPARATOR] == [
        "The camera is off",
        "Start the camera",
        "Quit",
    ]


def test_a_refused_wish_is_told_in_the_daemons_words(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FileDaemon, changes: object) -> None:
        raise DaemonError("sea.jpg is not a picture")

    monkeypatch.setattr(FileDaemon, "change", refuse)

    running.click("Background", "Loft")

    assert running.icon.told == [("That did not work", "sea.jpg is not a picture")]


def test_a_fault_shorter_than_a_replug_is_not_announced(held: Any) -> None:
    tray = app.Tray(QuietIcon, lambda: FileDaemon(held.path))
    live = View(state="live")
    fault = View(state="fault", reason="camera unplugged")

    for now in (live, fault, fault, live, fault, fault, fault, fault):
        tray._show(now)

    assert [title for title, _ in tray.icon.told] == ["You cannot be seen"]


def test_who_comes_to_watch_is_news_and_who_was_there_is_not() -> None:
    before = View(state="live", watchers=("zoom",))

    assert news(before, View(state="live", watchers=("zoom", "chrome"))) == (
        "Camera in use",
        "Camera in use by chrome",
    )
    assert news(before, View(state="live", watchers=("zoom",))) is None
    assert news(View(), View(state="live", watchers=("zoom",))) is None


def test_a_visible_room_has_an_icon_and_words_of_its_own() -> None:
    now = view({"state": "live"}, {"background": {"use": "none"}})

    assert now.sign == "room"
    assert now.headline == "Your room is visible"
    assert view({"state": "paused"}, {"background": {"use": "none"}}).sign == "paused"


def test_two_webcams_of_one_name_can_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        CameraInfo("C920", "/dev/video0", "/dev/v4l/by-path/usb-1"),
        CameraInfo("C920", "/dev/video2", "/dev/v4l/by-path/usb-2"),
        CameraInfo("Built-in", "/dev/video4", "/dev/v4l/by-path/pci"),
    ]
    monkeypatch.setattr("vcam.system.devices.list_cameras", lambda: found)

    assert app.list_cameras() == [
        ("/dev/v4l/by-path/usb-1", "C920 (video0)"),
        ("/dev/v4l/by-path/usb-2", "C920 (video2)"),
        ("Built-in", "Built-in"),
    ]


def test_webcams_are_asked_for_their_names_only_when_one_came_or_went(
    held: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = ["video0"]
    asked: list[str] = []

    def names() -> list[tuple[str, str]]:
        asked.append("now")
        return []

    monkeypatch.setattr(app, "video_nodes", lambda: tuple(nodes))
    tray = app.Tray(QuietIcon, lambda: FileDaemon(held.path), names)

    for _ in range(25):
        tray._look()
    assert len(asked) == 1

    nodes.append("video2")
    tray._look()
    assert len(asked) == 2


def test_every_state_has_a_picture_unlike_the_others() -> None:
    pictures = {icons.icon(state, 22).tobytes() for state in icons.COLOURS}

    assert len(pictures) == len(icons.COLOURS)


@pytest.mark.skipif(sys.platform != "linux", reason="Windows and macOS always have a tray")
def test_no_desktop_gives_one_sentence_and_the_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere/bus")

    with pytest.raises(VcamError, match="no place for tray icons") as caught:
        app.choose_icon(patience=0)

    assert "vcam open" in caught.value.hint


def test_gnome_without_its_extension_has_no_tray(bus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)

    with pytest.raises(VcamError, match="no panel takes them"):
        app.choose_icon(patience=0.3)


def test_the_menu_travels_over_the_bus_and_a_click_comes_back(bus: str, held: Any) -> None:
    from dbus_fast import BusType, Message, Variant
    from dbus_fast.aio import MessageBus

    from vcam.tray.status_item import Icon

    tray = app.Tray(Icon, lambda: FileDaemon(held.path), interval=0.05)
    thread = threading.Thread(target=tray.run)
    thread.start()
    until(lambda: tray.view.running)

    async def panel() -> list[str]:
        connection = await MessageBus(bus_type=BusType.SESSION).connect()

        async def call(member: str, signature: str, body: list[Any]) -> Any:
            reply = await connection.call(
                Message(
                    destination=tray.icon._name_on_bus,
                    path="/MenuBar",
                    interface="com.canonical.dbusmenu",
                    member=member,
                    signature=signature,
                    body=body,
                )
            )
            assert reply is not None
            return reply.body

        _, layout = await call("GetLayout", "iias", [0, -1, []])
        entries = [entry.value for entry in layout[2]]
        backgrounds = next(e for e in entries if e[1].get("label") == Variant("s", "Background"))
        loft = next(
            child.value
            for child in backgrounds[2]
            if child.value[1].get("label") == Variant("s", "Loft")
        )
        await call("Event", "isvu", [loft[0], "clicked", Variant("i", 0), 0])
        connection.disconnect()
        await connection.wait_for_disconnect()
        return [loft[1]["toggle-type"].value, backgrounds[1]["children-display"].value]

    try:
        shown = asyncio.run(panel())
        until(lambda: held.read()["settings"]["background"]["use"] == "loft")
    finally:
        tray.stop()
        thread.join(5)
    assert shown == ["radio", "submenu"]
    assert not thread.is_alive()


def test_without_a_virtual_camera_nothing_is_called_live() -> None:
    alone = view({"state": "live", "shown_to": "page"}, {})

    assert "Preview only" in alone.headline
    assert "no virtual camera" in alone.audience
    assert alone.sign == "idle"
    assert view({"state": "idle", "shown_to": "page"}, {}).headline == alone.headline
    assert view({"state": "live", "shown_to": "programs"}, {}).sign == "live"


def test_backgrounds_have_pictures_and_the_last_used_stand_first(running: Running) -> None:
    until(lambda: running.tray.view.preset == "studio")
    running.click("Background", "Dusk")
    until(lambda: running.tray.view.preset == "dusk")

    entries = list(running.entry("Background").submenu)[2:]  # below the blur

    assert [str(entry.text) for entry in entries[:4]] == ["Dusk", "Studio", "Library", "Loft"]
    assert all(entry.picture.startswith(b"\x89PNG") for entry in entries[:4])


@pytest.mark.parametrize("count", [12, 13, 32, 33, 200])
def test_no_menu_of_backgrounds_is_taller_than_a_small_screen(running: Running, count: int) -> None:
    names = [f"picture-{n}" for n in range(count)]
    now = View(presets=tuple((name, name) for name in names), preset="picture-5")
    running.tray._presets = [{"name": names[-1], "mine": True}]

    first = list(running.tray._backgrounds(now))
    more = next((list(e.submenu) for e in first if e.text == "More backgrounds"), [])

    assert max(len(first), len(more)) <= 24
    shown = [e.text for e in (*first, *more) if str(e.text).startswith("picture-")]
    assert sorted(shown) == sorted([names[-1], *names[:-1][:31]])
    assert shown[0] == names[-1]  # the user's own
    assert bool(more) == (count > 12)
    assert [e.text for e in more if "All" in str(e.text)] == ["All backgrounds …"] * (count > 32)


def test_a_room_that_is_visible_is_hidden_by_the_first_entry(running: Running) -> None:
    running.click("Background", "Show my room", "Yes")
    until(lambda: running.tray.view.revealed)

    running.click("Hide my room")

    until(lambda: not running.tray.view.revealed)


def test_a_receipt_is_told_once_and_can_be_switched_off() -> None:
    told = {"state": "live", "receipts": [{"text": "zoom watched for 5 s"}]}
    before, after = view({"state": "live"}, {}), view(told, {})

    assert news(before, after) == ("After the call", "zoom watched for 5 s")
    assert news(after, after) is None
    assert news(before, view(told, {"control": {"receipts": False}})) is None
