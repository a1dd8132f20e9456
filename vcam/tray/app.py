"""The tray: looks at the daemon once a second, shows its state, passes on what is chosen."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import io
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from PIL import Image

from vcam import words
from vcam.client import Client
from vcam.errors import VcamError
from vcam.foreign_text import block, plain
from vcam.settings.choice import Blur, Colour, File
from vcam.settings.language import language_of
from vcam.system import devices
from vcam.system.paths import runtime_dir, shortcuts_path
from vcam.tray import icons, wishes
from vcam.tray.view import (
    BLURS,
    DAILY,
    FRAMINGS,
    LIGHTS,
    RETURNS,
    SHORT,
    View,
    nearest_light,
    news,
    view,
)
from vcam.tray.wishes import Daemon
from vcam.words import _, told

if TYPE_CHECKING:
    from vcam.tray.shortcuts import Shortcuts

os.environ.setdefault("PYSTRAY_BACKEND", "dummy")  # the import itself must not look for a display
from pystray import Menu, MenuItem

log = logging.getLogger(__name__)

TITLE = "VBG Camera"
INTERVAL = 1.0  # seconds between two looks at the daemon
TOOLTIP = 120  # characters; Windows has room for no more
_NO_MARKUP = str.maketrans("<>&", "()+")  # for desktops that are not asked what they make of it
RECENT = 3  # presets that stand first in the menu
FIRST, MORE = 12, 20  # pictures in the menu, and in the one behind them: no screen has to scroll
FAULT_LOOKS = 3  # looks a fault must last before it is announced: a replug takes less

NO_TRAY = "This desktop has no place for tray icons"
NO_TRAY_HINT = "Run `vcam open` for the settings page, and `vcam doctor` for what is missing."


class Tray:
    """Owns the icon and the thread that watches the daemon.

    `connect` returns a daemon or raises VcamError; `cameras` lists what can be chosen.
    """

    def __init__(
        self,
        icon_type: Callable[..., Any],
        connect: Callable[[], Daemon],
        cameras: Callable[[], list[tuple[str, str]]] = list,
        interval: float = INTERVAL,
    ) -> None:
        self._connect = connect
        self._list_cameras = cameras
        self._interval = interval
        self._cameras: list[tuple[str, str]] = []
        self._nodes: tuple[str, ...] | None = None
        self._presets: list[dict[str, Any]] = []
        self._pictures: dict[str, bytes] = {}  # PNG, by the preset's name
        self._recent: list[str] = []  # presets, the last used first
        self._stamp: object = None  # changes when a preset comes or goes
        self._faults = 0
        self._announced = View()
        self._shortcuts: Shortcuts | None = None
        self._stale = False  # what is shown has changed, though the daemon has not
        self._wake = threading.Event()
        self._ended = threading.Event()
        self.view = View()
        self.icon = icon_type("vbg-camera", icons.icon("off"), TITLE, Menu(self._entries))

    def run(self) -> None:
        """Show the icon until it is quit; call it on the main thread."""
        self.icon.run(setup=self._watch)

    @contextlib.contextmanager
    def with_shortcuts(self, agreed: Path) -> Iterator[None]:
        """Take keys from the desktop's portal, where there is one; `agreed` remembers that."""
        from vcam.tray.shortcuts import Shortcuts

        self._shortcuts = Shortcuts(agreed, self._pressed, self._refresh, self._tell_shortcuts)
        self._shortcuts.start()
        try:
            yield
        finally:
            self._shortcuts.stop()

    def _pressed(self, name: str) -> None:
        frozen = self.view.state == "frozen"
        keys = {
            "toggle": wishes.toggle,
            "freeze": wishes.resume if frozen else wishes.freeze,
            "next": wishes.step(1),
        }
        if wish := keys.get(name):
            threading.Thread(target=self._does(wish), name="tray-key", daemon=True).start()

    def _refresh(self) -> None:
        self._stale = True
        self._wake.set()

    def _tell_shortcuts(self, text: str) -> None:
        self._notify(_("Keyboard shortcuts"), text)

    def stop(self) -> None:
        """Take the icon away; any thread may call it, a signal handler too."""
        self._ended.set()
        self._wake.set()
        self.icon.stop()

    def _watch(self, icon: Any) -> None:
        icon.visible = True
        while not self._ended.is_set():
            try:
                self._show(self._look())
            except Exception:
                log.exception("The tray could not be brought up to date")
            self._wake.wait(self._interval)
            self._wake.clear()

    def _look(self) -> View:
        try:
            daemon = self._connect()
            status = daemon.status()
            settings = daemon.settings()
            wish = settings["values"].get("control", {}).get("language", "auto")
            words.use(language_of(wish, os.environ))
            if (stamp := status.get("presets_stamp", "")) != self._stamp:
                self._presets, self._stamp = daemon.presets(), stamp
                self._pictures = {p["name"]: small(daemon, p["name"]) for p in self._presets}
            # Asking a webcam for its name wakes it up, so only when one came or went.
            if (nodes := video_nodes()) != self._nodes:
                self._cameras, self._nodes = self._list_cameras(), nodes
        except (VcamError, OSError):
            self._stamp = None  # a new daemon may offer other things
            return View()
        return view(status, settings["values"], self._presets, self._cameras)

    def _show(self, now: View) -> None:
        before, self.view = self.view, now
        if now.preset and now.preset not in self._recent[:1]:
            self._recent = [now.preset, *(r for r in self._recent if r != now.preset)][:RECENT]
        self._faults = self._faults + 1 if now.state == "fault" else 0
        if not 0 < self._faults < FAULT_LOOKS:
            message = news(self._announced, now)
            self._announced = now
            if message:
                self._notify(*message)
        if now == before and not self._stale:
            return
        self._stale = False
        if now.sign != before.sign:
            self.icon.icon = icons.icon(now.sign)
        # Below the title, where a panel shows more than that.
        commands = _("For shortcuts: vcam toggle, vcam freeze, vcam background next")
        self.icon.about = (self._shortcuts.words if self._shortcuts else "") or commands
        self.icon.title = plain(f"{TITLE}: {now.headline}", TOOLTIP)
        self.icon.update_menu()

    def _entries(self) -> Iterator[MenuItem]:
        now = self.view
        yield MenuItem(now.headline, None, enabled=False)
        if not now.running:
            yield MenuItem(_("Start the camera"), self._start, default=True)
            yield Menu.SEPARATOR
            yield MenuItem(_("Quit"), self.stop)
            return
        yield MenuItem(now.audience, None, enabled=False)
        yield Menu.SEPARATOR
        if now.revealed:
            yield MenuItem(_("Hide my room"), self._does(wishes.hide))
        yield MenuItem(_("Background"), Menu(lambda: self._backgrounds(now)))
        yield MenuItem(_("Blur strength"), Menu(lambda: self._blurs(now)))
        yield MenuItem(_("Light"), Menu(lambda: self._lights(now)))
        yield MenuItem(_("Framing"), Menu(lambda: self._framings(now)))
        if now.named:
            wish = wishes.changes("overlay", "show", not now.tagged)
            yield self._check(_("Name tag"), now.tagged, wish)
        else:
            yield MenuItem(_("Name tag …"), self._does(wishes.open_page))
        yield MenuItem(_("Camera"), Menu(lambda: self._sources(now)))
        yield Menu.SEPARATOR
        paused, frozen = now.state == "paused", now.state == "frozen"
        wish = wishes.resume if paused else wishes.pause()
        yield self._check(_("Pause (privacy card)"), paused, wish)
        yield MenuItem(_("Be right back…"), Menu(self._returns))
        wish = wishes.resume if frozen else wishes.freeze
        yield self._check(_("Freeze my picture"), frozen, wish)
        yield Menu.SEPARATOR
        # A click on the icon itself takes the default entry.
        yield MenuItem(_("Open settings"), self._does(wishes.open_page), default=True)
        if self._shortcuts and self._shortcuts.version:
            yield MenuItem(_("Keyboard shortcuts …"), self._shortcuts.choose)
        yield MenuItem(_("Stop the camera"), self._does(wishes.stop))
        yield MenuItem(_("Quit (the camera keeps running)"), self.stop)

    def _backgrounds(self, now: View) -> Iterator[MenuItem]:
        known = {name for name, _ in now.presets}
        wish = now.choice
        blurred = isinstance(wish, Blur) and not now.revealed
        yield self._radio(_("Blur my room"), blurred, wishes.changes("background", "use", "blur"))
        for name, title in now.presets:
            if name == DAILY:
                yield self._radio(title, now.preset == name, wishes.use(name))
        if isinstance(wish, File | Colour) and now.preset not in known:
            own = wish.text if isinstance(wish, Colour) else Path(wish.path).name
            yield self._radio(
                plain(own, SHORT), True, wishes.changes("background", "use", now.background)
            )
        yield Menu.SEPARATOR
        pictures = [preset for preset in now.presets if preset[0] != DAILY]
        mine = {one["name"] for one in self._presets if one.get("mine")}
        pictures.sort(key=lambda preset: preset[0] not in mine)
        pictures = recent_first(pictures, self._recent)
        yield from self._pictured(now, pictures[:FIRST])
        if rest := pictures[FIRST:]:
            yield MenuItem(_("More backgrounds"), Menu(lambda: self._rest(now, rest)))
        if pictures:
            yield Menu.SEPARATOR
            yield MenuItem(_("Next"), self._does(wishes.step(1)))
            yield MenuItem(_("Previous"), self._does(wishes.step(-1)))
            yield Menu.SEPARATOR
        # A click by mistake shows nothing: the wish itself stands one menu further.
        yield MenuItem(_("Show my room"), Menu(lambda: self._room(now)))
        if now.revealed:
            yield MenuItem(_("Hide my room"), self._does(wishes.hide))
        yield Menu.SEPARATOR
        yield MenuItem(_("Add a picture …"), self._does(wishes.open_page))

    def _pictured(self, now: View, some: Sequence[tuple[str, str]]) -> Iterator[MenuItem]:
        for name, title in some:
            entry = self._radio(title, now.preset == name, wishes.use(name))
            entry.picture = self._pictures.get(name, b"")  # for desktops that show one
            yield entry

    def _rest(self, now: View, some: Sequence[tuple[str, str]]) -> Iterator[MenuItem]:
        yield from self._pictured(now, some[:MORE])
        if some[MORE:]:
            yield Menu.SEPARATOR
            yield MenuItem(_("All backgrounds …"), self._does(wishes.open_page))

    def _room(self, now: View) -> Iterator[MenuItem]:
        title = _("Yes, others may see everything behind me")
        yield self._radio(title, now.revealed, wishes.uncover)

    def _blurs(self, now: View) -> Iterator[MenuItem]:
        wish = now.choice
        blurred = isinstance(wish, Blur)
        own = wish.percent if isinstance(wish, Blur) else None
        strength = now.blur if own is None else own
        nearest = min((number for _, number in BLURS), key=lambda number: abs(number - strength))
        for title, number in BLURS:
            yield self._radio(_(title), blurred and number == nearest, wishes.blur(number))

    def _lights(self, now: View) -> Iterator[MenuItem]:
        for title, percent in LIGHTS:
            wish = wishes.changes("look", "light", percent)
            yield self._radio(_(title), percent == nearest_light(now.light), wish)

    def _framings(self, now: View) -> Iterator[MenuItem]:
        for title, name in FRAMINGS:
            wish = wishes.changes("look", "framing", name)
            yield self._radio(_(title), name == now.framing, wish)

    def _returns(self) -> Iterator[MenuItem]:
        for title, minutes in RETURNS:
            yield MenuItem(_(title), self._does(wishes.pause(60.0 * minutes)))

    def _sources(self, now: View) -> Iterator[MenuItem]:
        known = {name for name, _ in now.cameras}
        cameras = (
            now.cameras if now.source in known else (*now.cameras, (now.source, plain(now.source)))
        )
        for name, title in cameras:
            if name == "auto" and now.source == "auto" and now.camera:
                title = f"{_(title)} ({now.camera})"
            elif name == "auto":
                title = _(title)
            yield self._radio(title, now.source == name, wishes.changes("camera", "source", name))
        yield Menu.SEPARATOR
        mirrored = now.mirror_preview
        turn = wishes.changes("control", "mirror_preview", not mirrored)
        yield self._check(_("Mirror my preview"), mirrored, turn)
        flip = wishes.changes("camera", "mirror", not now.mirror)
        yield self._check(_("Flip what others see"), now.mirror, flip)

    def _check(self, title: str, on: bool, wish: Callable[[Daemon], Any]) -> MenuItem:
        return MenuItem(title, self._does(wish), checked=lambda _: on)

    def _radio(self, title: str, on: bool, wish: Callable[[Daemon], Any]) -> MenuItem:
        return MenuItem(title, self._does(wish), checked=lambda _: on, radio=True)

    def _does(self, wish: Callable[[Daemon], Any]) -> Callable[[], None]:
        """Handler of a click: asks the daemon, and shows the outcome at once."""

        def click() -> None:
            try:
                wish(self._connect())
            except (VcamError, OSError) as error:
                log.warning("%s", error)
                self._notify(_("That did not work"), told(str(error)))
            self._wake.set()

        return click

    def _start(self) -> None:
        try:
            done = subprocess.run(
                [*command(), "start"], capture_output=True, text=True, timeout=120, check=False
            )
            problem = done.stderr.strip() if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            problem = str(error)
        if problem:
            self._notify(_("The camera did not start"), problem)
        self._wake.set()

    def _notify(self, title: str, text: str) -> None:
        if not self.icon.HAS_NOTIFICATION:
            return
        text = block(text)[: 250 if sys.platform == "win32" else 1000]
        if sys.platform.startswith("linux") and not getattr(self.icon, "escapes", False):
            text = text.translate(_NO_MARKUP)
        self.icon.notify(text, title)


def recent_first(
    presets: Sequence[tuple[str, str]], recent: Sequence[str]
) -> list[tuple[str, str]]:
    """Presets with those used lately in front, the others in their own order."""
    known = dict(presets)
    first = [(name, known[name]) for name in recent if name in known]
    return [*first, *((name, title) for name, title in presets if name not in recent)]


def small(daemon: Daemon, name: str) -> bytes:
    """The picture of a preset as a menu has room for it, as PNG; b"" where there is none."""
    try:
        with Image.open(io.BytesIO(daemon.thumbnail(name))) as image:
            image.thumbnail(icons.IN_MENU)
            made = io.BytesIO()
            image.save(made, "PNG")
            return made.getvalue()
    except (VcamError, OSError, ValueError):
        return b""


def command() -> list[str]:
    """Command line of `vcam`: the script beside this Python, else the one on the path."""
    beside = Path(sys.executable).with_name("vcam")
    found = str(beside) if beside.exists() else shutil.which("vcam")
    return [found] if found else [sys.executable, "-m", "vcam.cli"]


def choose_icon(patience: float) -> Callable[..., Any]:
    """The kind of icon this desktop can show, waiting up to `patience` seconds for its panel.

    Raises:
        VcamError: there is none.
    """
    if sys.platform == "win32":
        return _own("_win32")
    if sys.platform == "darwin":
        return _own("_darwin")
    from vcam.tray import status_item

    try:
        if asyncio.run(status_item.watcher_runs(patience)):
            return status_item.Icon
        reason = "no panel takes them"
    except (OSError, ValueError, EOFError) as error:
        reason = f"there is no session bus ({error})"
    # Older panels: through GTK where it is installed, else a bare X icon, which has no menu but
    # opens the settings page when clicked.
    if os.environ.get("DISPLAY") and _x_tray_runs():
        for name in ("_gtk", "_xorg"):
            try:
                return _own(name)
            except Exception as error:  # each of them fails in ways of its own
                log.debug("pystray%s cannot be used: %s", name, error)
    raise VcamError(f"{NO_TRAY}: {reason}", hint=NO_TRAY_HINT)


def _own(name: str) -> Callable[..., Any]:
    """One of pystray's own icons."""
    icon: Callable[..., Any] = importlib.import_module(f"pystray.{name}").Icon
    return icon


def _x_tray_runs() -> bool:
    """True if an X11 system tray is there."""
    try:
        from Xlib.display import Display

        display = Display()
        try:
            screen = display.get_default_screen()
            owner = display.get_selection_owner(display.intern_atom(f"_NET_SYSTEM_TRAY_S{screen}"))
            return bool(owner)
        finally:
            display.close()
    except Exception as error:  # no Xlib, no display, no permission: no tray either way
        log.debug("No X11 tray: %s", error)
        return False


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Hold the tray's lock, so that autostart and a hand-typed `vcam tray` show one icon.

    Raises:
        VcamError: another tray runs.
    """
    lock = FileLock(runtime_dir() / "tray.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise VcamError("The tray icon is there already", hint="Look at the panel.") from None
    try:
        yield
    finally:
        lock.release()


def video_nodes() -> tuple[str, ...]:
    """Video nodes of the kernel, none of them touched; empty on other systems."""
    return tuple(sorted(path.name for path in Path("/sys/class/video4linux").glob("video*")))


def list_cameras() -> list[tuple[str, str]]:
    """Choices of a camera: (value of `camera.source`, words to show)."""
    found = devices.list_sources()
    names = [camera.name for camera in found]
    return [
        (camera.name, camera.name)
        if names.count(camera.name) == 1
        else (camera.stable, f"{camera.name} ({Path(camera.path).name})")
        for camera in found
    ]


def run(patience: float = 15.0) -> int:
    """Show the tray icon until it is quit; the exit code.

    Raises:
        VcamError: no tray here, or one is shown already.
    """
    with only_one():
        tray = Tray(choose_icon(patience), Client.connect, list_cameras)
        for number in (signal.SIGINT, signal.SIGTERM):
            # The icon joins threads when it stops, which a handler must not wait for.
            signal.signal(number, lambda *_: threading.Thread(target=tray.stop).start())
        keys = sys.platform.startswith("linux")
        with tray.with_shortcuts(shortcuts_path()) if keys else contextlib.nullcontext():
            tray.run()
    return 0
