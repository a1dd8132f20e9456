"""Presets: every background that has a name, and the looks a user keeps under one.

A look is a background together with how the person is set into it. Looks lie in a small file of
their own beside the backgrounds folder; `vcam.compose.backdrops` knows the pictures and clips.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PIL import Image, ImageFilter

from vcam.compose import backdrops, fitting, shipped
from vcam.errors import BackgroundError, VcamError
from vcam.files import watched
from vcam.files.whole import numbered, replace_file
from vcam.foreign_text import plain
from vcam.settings import config
from vcam.settings.choice import Colour, File, Preset, Reveal, parse
from vcam.system.paths import backgrounds_dir

if TYPE_CHECKING:
    from vcam.settings.config import Changes, Config

log = logging.getLogger(__name__)

# What a look remembers; everything else stays as it is when a look is chosen.
KEPT: Final = {
    "background": ("use", "blur", "light_wrap", "decontaminate"),
    "matte": ("smoothing", "people"),
    "look": ("light", "sharp"),
}
SINCE: Final = {"look"}  # looks of an older release lack it, and leave it as it is
MOST: Final = 100  # looks
LONGEST: Final = 60  # characters of a name

_changing = threading.Lock()  # held while the file is read and written anew: two changes are two


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to choose: what it is called and what choosing it sets."""

    name: str
    kind: str  # "drawn", "picture", "clip" or "look"
    mine: bool  # made by the user, who may delete it
    values: Changes
    light: str | None = None  # where its own comes from, as far as it is known
    credit: dict[str, str] | None = None  # who made a picture that is shipped
    fitting: fitting.Fitting | None = None  # how a picture of the user's is placed
    watched: bool = False  # in a folder where nothing is deleted


def entries() -> list[Entry]:
    """Everything with a name: backgrounds first, then looks, each in their own order."""
    shown, looks = backdrops.presets(), _looks()
    known = shipped.known()
    # A look that was kept before a picture of its name was shipped keeps that name.
    fresh = known.keys() - shipped.RESERVED | {shipped.DAILY}
    shown = [p for p in shown if p.mine or p.name not in fresh or p.name not in looks]
    taken = {preset.name for preset in shown}
    kept = [Entry(n, "look", True, v) for n, v in looks.items() if n not in taken]
    return [*map(_entry, shown), *kept]


def _entry(preset: backdrops.Preset) -> Entry:
    values = {"background": {"use": str(Preset(preset.name))}}
    if preset.mine:
        mine = Entry(preset.name, preset.kind, True, values, watched=preset.watched)
        if preset.kind != "picture" or preset.path is None:
            return mine
        return dataclasses.replace(mine, fitting=fitting.wishes.of(preset.path))
    made = shipped.known().get(preset.name)
    light = shipped.light_of(preset.name)
    return Entry(preset.name, preset.kind, False, values, light, made.credit if made else None)


def find(name: str) -> Entry:
    """The entry called `name`.

    Raises:
        BackgroundError: there is none, or the folder that is watched does not answer.
    """
    for entry in entries():
        if entry.name == name:
            return entry
    watched.refuse_unlisted(name)
    raise BackgroundError(
        f"{name!r} is not a preset", hint="Run `vcam background` to list presets."
    )


def current(now: Config) -> str:
    """The name of what is in force, "" if it has none; a look that fits outranks its background."""
    fitting = [e for e in entries() if _fits(e, now)]
    return fitting[-1].name if fitting else ""


def shows(name: str, now: Config) -> bool:
    """True if the background called `name` is a file of the user's, and in force."""
    mine = any(one.mine and one.kind != "look" for one in entries() if one.name == name)
    return mine and now.background.choice == Preset(name)


def neighbour(now: Config, step: int) -> Entry:
    """The entry `step` places after the one in force, round and round.

    A look without a background, of an older release, is no place to go on from.
    """
    known = [entry for entry in entries() if "use" in entry.values["background"]]
    names = [entry.name for entry in known]
    here = current(now)
    start = names.index(here) if here else (-1 if step > 0 else 0)
    return known[(start + step) % len(known)]


def keep(name: str, now: Config) -> Entry:
    """Keep the background and look in force under `name`; an older look of that name goes.

    Raises:
        BackgroundError: the name cannot be used, the background is the room itself, or the file
            cannot be written.
    """
    name = name.strip()
    if isinstance(now.background.choice, Reveal):
        raise BackgroundError(
            "a look does not remember to show your room", hint="Choose a background first."
        )
    if str(Preset(name)) != name:  # it would read as something else
        raise BackgroundError(
            f"a look cannot be called {name[:80]!r}, which means something else",
            hint="Choose another name.",
        )
    if not name or len(name) > LONGEST or not name.isprintable() or "/" in name:
        raise BackgroundError(
            f"a look cannot be called {name[:80]!r}, expected 1 to {LONGEST} letters",
            hint="Choose another name.",
        )
    if name in {p.name for p in backdrops.presets()}:
        raise BackgroundError(f"{name!r} is a background already", hint="Choose another name.")
    values = now.model_dump()
    with _changing:
        looks = _stored()
        looks[name] = {s: {key: values[s][key] for key in keys} for s, keys in KEPT.items()}
        if len(looks) > MOST:
            raise BackgroundError(f"there are {MOST} looks already", hint="Delete one of them.")
        _write(looks)
    return Entry(name, "look", True, looks[name])


def remove(name: str) -> Callable[[], None]:
    """Delete a look, picture or clip of the user's; returns what takes that back for a while.

    Raises:
        BackgroundError: there is none of that name, or it is drawn by the program.
    """
    if {entry.name: entry.kind for entry in entries()}.get(name) != "look":
        return _remove_placed(name)
    with _changing:
        looks = _stored()
        gone = looks.pop(name, None)
        _write(looks)

    def put_back() -> None:
        with _changing:
            _write({name: gone, **_stored()})

    return put_back


def _remove_placed(name: str) -> Callable[[], None]:
    """Delete a picture together with how it was placed: another of its name is another picture."""
    paths = [p.path for p in backdrops.presets() if p.name == name and p.mine and p.path]
    put_back = backdrops.remove(name)
    placed = [path for path in paths if fitting.wishes.of(path) != fitting.Fitting()]
    undo = [put_back]
    with contextlib.suppress(BackgroundError):  # the picture is gone all the same
        undo += [fitting.wishes.keep(path, fitting.Fitting()) for path in placed]

    def back() -> None:
        for each in undo:
            each()

    return back


def place(name: str, told: Mapping[str, Any]) -> Callable[[], None]:
    """Fit a picture of the user's as `told`; returns what takes that back.

    Raises:
        BackgroundError: it is no picture of the user's, or `told` is wrong.
    """
    wish = fitting.parse(told)
    for preset in backdrops.presets():
        if preset.name == name and preset.mine and preset.kind == "picture" and preset.path:
            return fitting.wishes.keep(preset.path, wish)
    raise BackgroundError(
        f"{name!r} is no picture of yours", hint="Add it to your backgrounds first."
    )


def thumbnail(name: str) -> bytes:
    """Draw an entry small, as JPEG.

    Raises:
        BackgroundError: no preset has that name, or its file cannot be read.
    """
    entry = find(name)
    use = parse(str(entry.values["background"].get("use", "blur")))
    if isinstance(use, Preset | File):
        return backdrops.small(use)
    if isinstance(use, Colour):
        image = Image.new("RGB", (256, 144), use.text)
    else:  # of the room, which nothing here may show
        room = Image.open(io.BytesIO(backdrops.small(Preset("loft"))))
        image = room.filter(ImageFilter.GaussianBlur(9))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def stamp() -> str:
    """A word that changes whenever a preset comes, goes or changes; cheap enough to ask often."""
    day, placed = shipped.today().toordinal(), sum(fitting.wishes.marks.values())
    return f"{hash((tuple(backdrops.stamps()), _mtime(_path()), day, placed)) & 0xFFFFFFFF:x}"


def _fits(entry: Entry, now: Config) -> bool:
    wanted = dict(entry.values["background"])
    use = wanted.pop("use", None)  # a look of an older release may have none
    return (
        use is not None
        and parse(use) == now.background.choice
        and all(
            getattr(getattr(now, section), key) == value
            for section, keys in {**entry.values, "background": wanted}.items()
            for key, value in keys.items()
        )
    )


def _path() -> Path:
    return backgrounds_dir().parent / "looks.json"


def _mtime(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _looks() -> dict[str, Changes]:
    return _read(_path(), _mtime(_path()))


@functools.lru_cache(2)
def _read(path: Path, mtime: int) -> dict[str, Changes]:
    """The looks in `path`; what is damaged or of another version is left out."""
    if not mtime:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    base = config.load(config.default_path(), environ={})
    looks: dict[str, Changes] = {}
    for name, values in list(found.items())[:MOST]:
        try:
            told = [s for s in KEPT if s in values or s not in SINCE]
            kept = {s: {k: values[s][k] for k in KEPT[s]} for s in told}
            wish = base.with_changes(kept).background.choice
            if isinstance(wish, Reveal):  # of an older release: the look stays, less the room
                del kept["background"]["use"]
        except (VcamError, KeyError, TypeError):
            continue
        looks[plain(name)] = kept
    return looks


def _stored() -> dict[str, Any]:
    """Everything in the file, also what this release does not understand; `_changing` is held.

    A file that cannot be understood at all is put aside before a new one is written.
    """
    path = _path()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    except FileNotFoundError:
        return {}
    except ValueError:
        pass
    except OSError as error:
        raise BackgroundError(
            f"{str(path)!r} cannot be read: {error.strerror}", hint="Make the file readable."
        ) from error
    aside = next(p for p in numbered(path.with_name("looks.damaged.json")) if not p.exists())
    with contextlib.suppress(OSError):
        path.rename(aside)
        log.warning("%s cannot be understood and is kept as %s", path, aside.name)
    return {}


def _write(looks: dict[str, Any]) -> None:
    try:
        replace_file(_path(), json.dumps(looks, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise BackgroundError(
            f"{str(_path())!r} cannot be written: {error.strerror}",
            hint="Free some space or make the folder writable.",
        ) from error
