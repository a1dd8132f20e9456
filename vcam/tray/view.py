"""The tray's view of the daemon at one moment, in the words it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vcam.foreign_text import plain
from vcam.settings.choice import Choice, parse
from vcam.words import _, mark, told

SHORT = 60  # characters of a name in a menu
SEEN = {"page": mark("Preview only: no program can see you"), "file": mark("Recording only")}
BLURS = (
    (mark("Soft"), 25),
    (mark("Medium"), 50),
    (mark("Strong"), 75),
    (mark("Strongest"), 100),
)
LIGHTS = ((mark("Off"), 0), (mark("Mild"), 40), (mark("Strong"), 80))  # percent
FRAMINGS = (
    (mark("Off"), "off"),
    (mark("Head and shoulders"), "head-and-shoulders"),
    (mark("Close-up"), "close"),
)
RETURNS = ((mark("in 5 minutes"), 5), (mark("in 10 minutes"), 10), (mark("in 15 minutes"), 15))
DAILY = "daily"  # the background that is another picture each day


@dataclass(frozen=True)
class View:
    """The daemon's state, its settings and what can be chosen; `state` "off": no daemon."""

    state: str = "off"
    reason: str = ""
    background: str = ""
    revealed: bool = False  # others see the room
    preset: str = ""  # the name of the background or look in force, if it has one
    blur: int = 50
    light: int = 0  # percent
    framing: str = "off"
    named: bool = False  # there is something to write on a name tag
    tagged: bool = False  # and it is shown
    back_in: int | None = None  # minutes that the card counts down
    mirror: bool = False  # of what others see
    mirror_preview: bool = True  # of what the user sees of it
    source: str = "auto"
    shown_to: str = "programs"  # or a "file", or the settings "page" alone
    camera: str = ""  # the name of what is being read
    watchers: tuple[str, ...] = ()
    receipt: str = ""  # of the last call
    tells_receipts: bool = True
    presets: tuple[tuple[str, str], ...] = ()  # what to set, what to show
    cameras: tuple[tuple[str, str], ...] = field(default=(("auto", mark("Automatic")),))

    @property
    def running(self) -> bool:
        return self.state != "off"

    @property
    def choice(self) -> Choice | None:
        """The background in force; None if the daemon told of none that is known here."""
        try:
            return parse(self.background)
        except ValueError:
            return None

    @property
    def sign(self) -> str:
        """Which icon to show: the room being visible is a state of its own."""
        if self.state == "live":
            return "room" if self.revealed else "live" if self.shown_to == "programs" else "idle"
        return self.state

    @property
    def headline(self) -> str:
        """The menu's first line and the icon's tooltip."""
        card = _("Others see the privacy card")
        paused = _("Paused: others see the privacy card")
        if self.back_in == 0:
            paused = _("Paused: the card says “{0}”", told("Back soon"))
        elif self.back_in:
            paused = _("Paused: the card says you are back in {0} min", self.back_in)
        seen = _(SEEN.get(self.shown_to, "Live"))
        return {
            "off": _("The camera is off"),
            "starting": _("Starting"),
            "live": _("Your room is visible") if self.revealed else seen,
            "idle": seen
            if self.shown_to == "page"
            else _("Ready: your webcam stays off until a program watches"),
            "paused": paused,
            "frozen": _("Frozen: others see a still picture"),
            "fault": f"{card}: {told(self.reason)}" if self.reason else card,
        }.get(self.state, self.state)

    @property
    def audience(self) -> str:
        """The watchers' names, in words."""
        if self.shown_to == "page":
            return _("There is no virtual camera: see the check-up in the settings")
        if not self.watchers:
            return _("Nobody is watching")
        return plain(_("Watching: {0}", ", ".join(self.watchers)))


def view(
    status: Mapping[str, Any],
    settings: Mapping[str, Any],
    presets: Sequence[Mapping[str, Any]] = (),
    cameras: Sequence[tuple[str, str]] = (),
) -> View:
    """Read the daemon's answers; what is missing keeps its default."""
    background = settings.get("background", {})
    camera, look = settings.get("camera", {}), settings.get("look", {})
    tag = settings.get("overlay", {})
    named = any(tag.get(key) for key in ("name", "title", "pronouns", "logo", "clock"))
    back_in = status.get("back_in_s")
    use = str(background.get("use") or status.get("background") or "")
    return View(
        state=plain(status.get("state", "starting")),
        shown_to=str(status.get("shown_to", "programs")),
        reason=plain(status.get("reason") or ""),
        background=use,
        revealed=bool(status.get("revealed")) or use == "none",
        preset=str(status.get("preset", use)),
        blur=int(background.get("blur", 50)),
        light=int(look.get("light", 0)),
        framing=str(look.get("framing", "off")),
        named=named,
        tagged=named and bool(tag.get("show", True)),
        back_in=None if back_in is None else -(-int(back_in) // 60),
        mirror=bool(camera.get("mirror", False)),
        mirror_preview=bool(settings.get("control", {}).get("mirror_preview", True)),
        source=str(camera.get("source", "auto")),
        camera=plain((status.get("source") or {}).get("name", "")),
        watchers=tuple(plain(name, SHORT) for name in status.get("watchers") or ()),
        receipt=plain((status.get("receipts") or [{}])[-1].get("text", ""), None),
        tells_receipts=bool(settings.get("control", {}).get("receipts", True)),
        presets=tuple(_preset(entry) for entry in presets),
        cameras=(("auto", mark("Automatic")), *((name, plain(title)) for name, title in cameras)),
    )


def _preset(entry: Mapping[str, Any]) -> tuple[str, str]:
    """A preset's name and what to call it."""
    name = str(entry["name"])
    title = name.replace("-", " ").capitalize()
    if entry.get("mine", True):
        return name, plain(title, SHORT)
    return name, _("Surprise me each day") if name == DAILY else _(title)


def nearest_light(percent: int) -> int:
    """Which of `LIGHTS` a strength is closest to; only none at all is off."""
    some = [least for _, least in LIGHTS if least]
    return min(some, key=lambda least: abs(least - percent)) if percent else 0


def news(before: View, now: View) -> tuple[str, str] | None:
    """News for a notification: (title, message), or None."""
    if now.state == "fault" and before.state != "fault":
        return _("You cannot be seen"), now.headline
    if before.state == "fault" and now.state == "live":
        return _("You can be seen again"), now.camera
    if now.revealed and not before.revealed and before.running:
        return (
            _("Others see your room"),
            _("A background, a pause or the end of the call hides it again."),
        )
    if now.receipt != before.receipt and now.receipt and before.running and now.tells_receipts:
        return _("After the call"), told(now.receipt)
    fresh = [name for name in now.watchers if name not in before.watchers]
    if fresh and before.running:
        return _("Camera in use"), plain(_("Camera in use by {0}", ", ".join(fresh)))
    return None
