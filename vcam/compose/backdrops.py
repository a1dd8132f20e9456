"""Backgrounds that stand behind the person: pictures, clips, colours, presets and blur."""

from __future__ import annotations

import contextlib
import difflib
import functools
import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

import numpy as np

from vcam.compose import drawn, fitting, shipped
from vcam.compose.scene import Blur
from vcam.errors import BackgroundError, SourceError
from vcam.files import watched as shared
from vcam.files.watched import LISTED_WITHIN
from vcam.files.whole import write_file
from vcam.foreign_text import plain
from vcam.media import formats, pictures, thumbnails
from vcam.media.clip import ClipSource
from vcam.settings import choice as choices
from vcam.settings.choice import Choice, parse
from vcam.system import patience
from vcam.system.paths import backgrounds_dir, expanded

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

DELETED: Final = ".deleted-"  # and when, in nanoseconds: a file that can still be put back
KEPT_FOR: Final = 60.0  # seconds
MAX_UPLOAD: Final = 64 * 1024 * 1024  # bytes of a picture or clip that is added as a preset
DRAWN_MOST: Final = 2560  # pixels of the longer side of a scene; larger outputs enlarge it
READ_MOST: Final = 6144  # and of a picture that is read for one
AHEAD: Final = 3  # decoded clip frames kept ready
CLOSED_WITHIN: Final = 0.5  # seconds that are waited for a clip to be closed
FILES_MOST: Final = 1000  # of a folder that are listed


class Backdrop(Protocol):
    """A background that is open, at output size."""

    name: str
    lit_from: str  # where its light comes from, if that was noted

    def at(self, pts: float) -> NDArray[np.uint8] | Blur:
        """Return what is behind the person at `pts` seconds.

        Shapes:
            returns: (H * 3 // 2, W) uint8 I420 limited range, or what makes it from the frame
        """
        ...

    def close(self) -> None:
        """Stop threads and give memory back."""
        ...


class Fixed:
    """A background that does not move."""

    def __init__(self, name: str, content: NDArray[np.uint8] | Blur, *, lit_from: str = "") -> None:
        self.name, self.lit_from = name, lit_from
        self._content = content

    def at(self, pts: float) -> NDArray[np.uint8] | Blur:
        return self._content

    def close(self) -> None:
        pass


class Looping:
    """A clip at its own speed, decoded ahead; one that is damaged or hangs stands still.

    Its thread alone opens, reads and closes the file: nobody waits for a share that hangs.

    Raises:
        BackgroundError: nothing in the clip can be decoded, or it does not answer.
    """

    def __init__(self, path: Path, width: int, height: int, *, lit_from: str = "") -> None:
        self.lit_from = lit_from
        self.name = str(path)
        self._path, self._size = path, (width, height)
        self._source = ClipSource(path, live=False, cover=(width, height))
        self._fault = ""
        self._reading = float("inf")  # since when, while a picture is being decoded
        self._started: float | None = None
        self._ready: deque[tuple[float, NDArray[np.uint8]]] = deque()
        self._room = threading.Semaphore(AHEAD)
        self._stop = threading.Event()
        self._opening: patience.Job[NDArray[np.uint8]] = patience.Job(path)
        self._thread = threading.Thread(target=self._run, name="backdrop", daemon=True)
        self._thread.start()
        self._now = self._opening.wait()

    def at(self, pts: float) -> NDArray[np.uint8]:
        if self._started is None:
            self._started = pts
        due = pts - self._started
        while self._ready and self._ready[0][0] <= due:
            _, self._now = self._ready.popleft()
            self._room.release()
        # A pause or a slow disk must not be caught up with by racing through the clip.
        if self._ready and due - self._ready[-1][0] > 1.0:
            self._started = pts - self._ready[0][0]
        return self._now

    @property
    def problem(self) -> str:
        """Reason that it stands still; "" while it plays."""
        if time.monotonic() - self._reading > patience.PATIENCE:
            return f"background clip {self.name!r} does not answer and stands still"
        return self._fault

    def close(self) -> None:
        """Have its thread close the file; a moment is waited for that, but not for a share."""
        self._stop.set()
        self._room.release()
        if time.monotonic() - self._reading < CLOSED_WITHIN:
            self._thread.join(CLOSED_WITHIN)

    def _run(self) -> None:
        with contextlib.ExitStack() as opened:
            if self._opening.do(lambda: self._open(opened)):
                self._play()

    def _open(self, opened: contextlib.ExitStack) -> NDArray[np.uint8]:
        try:
            opened.enter_context(self._source)
            return self._decode()[1]
        except (SourceError, EOFError) as error:
            raise BackgroundError(
                getattr(error, "message", f"{str(self._path)!r} holds no picture"),
                hint=getattr(error, "hint", "Give a video file that plays in a media player."),
            ) from error

    def _play(self) -> None:
        base, last = 0.0, 0.0
        while True:
            self._room.acquire()
            if self._stop.is_set():
                return
            self._reading = time.monotonic()
            try:
                at, data = self._decode()
                last = at
            except EOFError:
                base += last + 1 / self._source.fps
                try:
                    self._source.__exit__(None, None, None)
                    self._source.__enter__()
                    at, data = self._decode()
                except (SourceError, EOFError) as error:
                    self._fail(error)
                    return
            except (SourceError, ValueError, OSError) as error:
                self._fail(error)
                return
            finally:
                self._reading = float("inf")
            self._ready.append((base + at, data))

    def _fail(self, error: Exception) -> None:
        self._fault = f"background clip {self.name!r} stopped: {error}"
        log.warning("%s", self._fault)

    def _decode(self) -> tuple[float, NDArray[np.uint8]]:
        frame = self._source.read(0)
        assert frame is not None
        rgb_free = pictures.fit_planes(frame.planes, *self._size)
        return frame.pts, rgb_free


def open_backdrop(use: str | Choice, width: int, height: int, *, blur: int = 50) -> Backdrop:
    """Open what `[background] use` names, at output size; `blur` is the strength of a plain one.

    A blur too weak to hide the room is opened at the least one that does.

    Raises:
        BackgroundError: no such preset or file, or it cannot be shown.
        ValueError: it names a look, or the room itself, which no background can be.
    """
    choice = parse(use) if isinstance(use, str) else use
    name = str(choice)
    if isinstance(choice, choices.Blur):
        percent = blur if choice.percent is None else choice.percent
        return Fixed(name, Blur(max(percent, choices.LEAST_BLUR)))
    if isinstance(choice, choices.Colour):
        flat = np.full((height, width, 3), choice.rgb, np.uint8)
        return Fixed(name, pictures.i420_from_image(flat))
    if isinstance(choice, choices.Preset) and choice.name in drawn.SCENES:
        light = shipped.DRAWN_LIGHT.get(choice.name, "")
        return Fixed(name, _drawn(choice.name, width, height), lit_from=light)
    if not isinstance(choice, choices.Preset | choices.File):
        raise ValueError(f"{name!r} is no background")
    path = _named(choice)
    still = patience.within(path, lambda: _still(path, choice, width, height))
    light = ""
    if isinstance(choice, choices.Preset) and path.parent == shipped.FOLDER:
        light = shipped.light_of(choice.name) or ""
    if still is None:
        return Looping(path, width, height, lit_from=light)
    return Fixed(name, still, lit_from=light)


def _still(
    path: Path, choice: choices.Preset | choices.File, width: int, height: int
) -> NDArray[np.uint8] | None:
    """The picture at `path`, filling width x height; None if the file moves."""
    _exists(path, choice)
    if formats.readable(path, BackgroundError).kind != "picture":
        return None
    return pictures.i420_from_image(_fitted(path, fitting.wishes.of(path), width, height))


def _fitted(path: Path, wish: fitting.Fitting, width: int, height: int) -> NDArray[np.uint8]:
    """The picture at `path` as RGB, filling width x height as the user wished."""
    bound = min(round(2 * wish.zoom * max(width, height)), READ_MOST)
    fit = pictures.cover if wish == fitting.Fitting() else wish.fit
    return fit(pictures.read_image(path, bound=bound), width, height)


@functools.lru_cache(4)  # 1.4 MB each at 720p: going back and forth between scenes is free
def _drawn(scene: str, width: int, height: int) -> NDArray[np.uint8]:
    """A scene as I420; nobody writes to it."""
    scale = min(1.0, DRAWN_MOST / max(width, height))  # large ones would take gigabytes to draw
    image = drawn.draw(scene, max(2, round(width * scale)), max(2, round(height * scale)))
    return pictures.i420_from_image(pictures.cover(image, width, height))


@dataclass(frozen=True, slots=True)
class Preset:
    """A background with a name: drawn by the program, shipped with it, or a file of the user's."""

    name: str
    kind: Literal["drawn", "picture", "clip"]
    path: Path | None
    mine: bool = False  # a file of the user's
    watched: bool = False  # in the folder that is watched, where nothing is deleted


def presets() -> list[Preset]:
    """Every background with a name: the drawn ones, the pictures shipped, then the user's by name.

    A file that the user had before a picture of its name was shipped keeps that name. One in the
    folder that is watched has its name if nothing else has it.
    """
    own = _of_files(backgrounds_dir())
    taken = {preset.name.casefold() for preset in own}
    known = [*(one for one in _of_the_program() if one.name not in taken), *own]
    taken |= {preset.name.casefold() for preset in known}
    watched = _of_files(folder, watched=True) if (folder := shared.folder()) else []
    return [*known, *(one for one in watched if one.name.casefold() not in taken)]


def _of_files(folder: Path, *, watched: bool = False) -> list[Preset]:
    found = []
    files = patience.each(_files(folder), formats.kind_of, seconds=LISTED_WITHIN)
    for file, kind in files.items():
        if kind != "refused" and file.stem not in shipped.RESERVED:
            shown: Literal["picture", "clip"] = "picture" if kind == "picture" else "clip"
            found.append(Preset(plain(file.stem), shown, file, mine=True, watched=watched))
    return found


def _of_the_program() -> list[Preset]:
    daily = shipped.of_day(shipped.today())
    return [
        *(Preset(name, "drawn", None) for name in drawn.SCENES),
        Preset(shipped.DAILY, "picture", daily.path),
        *(Preset(one.name, one.kind, one.path) for one in shipped.known().values()),
    ]


def stamps() -> list[tuple[str, int, int]]:
    """Name, size and time of each file that may be a preset."""
    folders = (backgrounds_dir(), shared.folder())
    files = [file for folder in folders if folder for file in _files(folder)]
    found = patience.each(files, _facts, seconds=LISTED_WITHIN)
    return [(file.name, *facts) for file, facts in found.items() if facts is not None]


def _files(folder: Path) -> list[Path]:
    """The files in a folder of the user's, by name; none where it does not answer."""

    def names() -> list[str]:
        try:
            return sorted(os.listdir(folder))
        except OSError:
            return []

    try:
        found = patience.within(folder, names, seconds=LISTED_WITHIN)
    except BackgroundError:
        return []
    return [folder / name for name in found if not name.startswith(".")][:FILES_MOST]


def _facts(file: Path) -> tuple[int, int] | None:
    try:
        facts = file.stat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns


def small(use: choices.Preset | choices.File, width: int = 256, height: int = 144) -> bytes:
    """Draw a preset or file small, as JPEG.

    Raises:
        BackgroundError: there is none, or its file cannot be read.
    """
    if isinstance(use, choices.Preset) and use.name in drawn.SCENES:
        return thumbnails.jpeg(pictures.image_from_i420(_drawn(use.name, width, height)))
    path = _named(use)

    def draw() -> bytes:
        _exists(path, use)
        wish = fitting.wishes.of(path)
        if wish != fitting.Fitting() and formats.kind_of(path) == "picture":
            return thumbnails.jpeg(_fitted(path, wish, width, height))
        return thumbnails.thumbnail(path, width, height)

    return patience.within(path, draw)


def add_file(content: bytes | Path, name: str) -> Preset:
    """Keep a picture or clip as a preset under a safe form of `name`, after decoding it once.

    Raises:
        BackgroundError: too large, not a picture or clip, or the folder cannot be written.
    """
    return patience.within(backgrounds_dir(), lambda: _added(content, name))


def _added(content: bytes | Path, name: str) -> Preset:
    stem = re.sub(r"[^\w\- ]+", "", Path(name).stem).strip()[:60] or "background"
    folder = backgrounds_dir()
    part = folder / f".{stem}.{time.monotonic_ns()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        data = content.read_bytes() if isinstance(content, Path) else content
        if len(data) > MAX_UPLOAD:
            raise BackgroundError(
                f"{name!r} is {len(data) >> 20} MiB, expected at most {MAX_UPLOAD >> 20}",
                hint="Scale it down; 1920x1080 is plenty.",
            )
        found = formats.recognise(data)
        if found.kind == "refused":
            raise BackgroundError(f"{name!r} is {found.noun}", hint=found.hint)
        suffix = found.suffix  # the name's own may say anything
        part = part.with_suffix(suffix)
        part.write_bytes(data)
        _try_out(part, name)
        target = _free(folder, stem, suffix, data)
        if not target.exists():
            write_file(target, data, replace=False)
    except OSError as error:
        raise BackgroundError(
            f"{str(folder)!r} cannot be written: {error.strerror}",
            hint="Free some space or make the folder writable.",
        ) from error
    finally:
        part.unlink(missing_ok=True) if _present(part) else None
    kind: Literal["picture", "clip"] = "picture" if formats.kind_of(target) == "picture" else "clip"
    return Preset(target.stem, kind, target, mine=True)


def _try_out(part: Path, name: str) -> None:
    """Decode a file once; what is wrong with it is said by the name that the user knows."""
    try:
        open_backdrop(choices.File(str(part)), 64, 36).close()
    except BackgroundError as error:
        message = error.message.replace(repr(str(part)), repr(name)).replace(part.name, name)
        raise BackgroundError(message, hint=error.hint) from error


def _free(folder: Path, stem: str, suffix: str, data: bytes) -> Path:
    """Where to keep `data`: no other picture is overwritten, and the same one is not kept twice."""
    taken = {preset.name: preset.path for preset in presets()}
    name, number = stem, 2
    while name in taken:
        path = taken[name]
        if (
            path is not None
            and path.parent == folder
            and path.suffix.lower() == suffix
            and path.read_bytes() == data
        ):
            return path
        name, number = f"{stem} {number}", number + 1
    return folder / f"{name}{suffix}"


def remove(name: str) -> Callable[[], None]:
    """Delete one of the user's own presets; returns what takes that back while the file is kept.

    Raises:
        BackgroundError: it is drawn by the program, or there is none of that name.
    """
    preset = _preset(name)
    if preset is None or preset.path is None or not preset.mine:
        raise BackgroundError(
            f"{name!r} is not a background of yours", hint="Run `vcam background` to list presets."
        )
    if preset.watched:
        raise BackgroundError(
            f"{name!r} lies in the folder that is watched", hint="Delete the file there."
        )
    path = preset.path
    aside = path.with_name(f"{DELETED}{time.time_ns()}")  # hidden, so no preset
    try:
        patience.within(path, lambda: path.replace(aside))
    except OSError as error:
        raise BackgroundError(
            f"{str(path)!r} cannot be deleted: {error.strerror}", hint="Make the folder writable."
        ) from error

    def back() -> None:
        if path.exists():
            raise BackgroundError(f"{name!r} is there again", hint="Delete it first.")
        aside.replace(path)

    def put_back() -> None:
        try:
            patience.within(path, back)
        except OSError as error:
            raise BackgroundError(
                f"{name!r} cannot be put back: {error.strerror}", hint="Add it again."
            ) from error

    return put_back


def sweep() -> None:
    """Delete for good what was deleted more than `KEPT_FOR` ago."""
    folder = backgrounds_dir()

    def old() -> None:
        for aside in folder.glob(f"{DELETED}*"):
            if time.time_ns() - int(aside.name.removeprefix(DELETED)) > KEPT_FOR * 1e9:
                aside.unlink(missing_ok=True)

    with contextlib.suppress(BackgroundError, OSError, ValueError):
        patience.within(folder, old)


def _present(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _preset(name: str) -> Preset | None:
    # Settings may name a file as it is, where its name as shown is another one.
    known = presets()
    by_file = (p for p in known if p.path is not None and p.path.stem == name)
    return next((p for p in known if p.name == name), next(by_file, None))


def _named(choice: choices.Preset | choices.File) -> Path:
    """The path of a preset or file, which nobody looked at yet; a name may be a file's too."""
    use = choice.name if isinstance(choice, choices.Preset) else choice.path
    preset = _preset(use) if isinstance(choice, choices.Preset) else None
    if preset is not None and preset.path is not None:
        return preset.path
    return expanded(use)


def _exists(path: Path, choice: choices.Preset | choices.File) -> None:
    """Refuse what is not there, or a folder."""
    use = choice.name if isinstance(choice, choices.Preset) else choice.path
    if not _present(path):
        shared.refuse_unlisted(use)
        names = [p.name for p in presets()]
        folded = {name.casefold(): name for name in (*names, "blur")}
        near = difflib.get_close_matches(use.casefold(), folded, 1, 0.6)
        guess = f"; did you mean {folded[near[0]]!r}?" if near else ""
        raise BackgroundError(
            f"background {use!r} is neither a file nor a preset ({', '.join(names)}){guess}",
            hint="Give the path of a picture or clip, or run `vcam background` to list presets.",
        )
    if path.is_dir():
        raise BackgroundError(
            f"background {use!r} is a folder, expected a picture or a clip",
            hint="Give one file of it.",
        )
