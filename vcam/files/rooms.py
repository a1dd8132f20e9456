"""Learned rooms on disk, one for each camera: only while `privacy.remember_room` asks for it."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from segmentation import store
from vcam.system import paths

if TYPE_CHECKING:
    from segmentation.motion.room import RoomCopy

log = logging.getLogger(__name__)

EVERY: Final = 60.0  # seconds from one copy to the next
MOST: Final = 8  # cameras; the room of the one that was used longest ago goes first
LARGEST: Final = 1 << 20  # pixels: more than any network looks at, and no work for a frame's time
_SIZE: Final = struct.Struct("<II")  # height and width, before the bytes


class Learner(Protocol):
    """The part of `vcam.matting.Matting` that has learnt a room."""

    def copy_room(self) -> RoomCopy | None:
        """Return the copy of the room that was asked for last, and ask for another; one thread."""
        ...

    def recall_room(self, kept: RoomCopy) -> None:
        """Know this room, which `copy_room` returned once, from the next look on; any thread."""
        ...


class Camera(Protocol):
    """The part of a source that says which camera it is."""

    name: str
    live: bool


class KeptRooms:
    """Writes the learned room now and then, and hands it back when its camera opens again.

    Each is a small picture of a room. The folder is this user's alone (0700), and so is each file
    (0600). Owned by one thread, but for `forget`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = paths.rooms_dir() if folder is None else folder
        self._store: store.Store | None = None  # made when something is to be kept
        self._camera = ""  # that is live, and whose room was handed back
        self._due = 0.0
        self._forget = False
        self._clean = False  # what lay there before the setting was switched off is deleted

    def forget(self) -> None:
        """Have every room deleted at the next `follow`; any thread."""
        self._forget = True

    def follow(
        self, matting: Learner, source: Camera | None, now: float, *, live: bool, wanted: bool
    ) -> None:
        """Keep, hand back or delete, as the settings and the camera are at `now`, in seconds."""
        if self._forget or not wanted:
            if self._forget or not self._clean:
                forget_all(self._folder)
            self._forget, self._clean = False, True
            self._camera, self._store = "", None
            return
        self._clean = False
        if source is None or not source.live or not live:
            self._camera = ""
            return
        if self._store is None:
            self._store = store.Store(store.private([self._folder]), "rooms")
        camera = source.name
        if camera != self._camera:
            self._camera, self._due = camera, now + EVERY
            _overwrite(matting.copy_room())  # of another camera, perhaps
            if (kept := _unpacked(self._store.get(_file(camera)))) is not None:
                matting.recall_room(kept)
        elif now >= self._due:
            self._due = now + EVERY
            if (kept := matting.copy_room()) is not None:
                data = _SIZE.pack(*kept.shape[1:]) + kept.tobytes()
                self._store.put(_file(camera), data, alike="*.room", most=MOST)
                _overwrite(kept)


def forget_all(folder: Path | None = None) -> bool:
    """Delete every room on disk; False where there was none."""
    folder = paths.rooms_dir() if folder is None else folder
    if folder.is_symlink() or not folder.is_dir():
        return False
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)
    if folder.exists():
        log.warning("The rooms that were kept in %s cannot be deleted", folder)
    return True


def _file(camera: str) -> str:
    return hashlib.sha256(camera.encode()).hexdigest()[:24] + ".room"


def _unpacked(data: bytes | None) -> RoomCopy | None:
    if data is None or len(data) < _SIZE.size:
        return None
    h, w = _SIZE.unpack(data[: _SIZE.size])
    if h * w > LARGEST or len(data) != _SIZE.size + 4 * h * w:
        return None
    return np.frombuffer(data, np.uint8, offset=_SIZE.size).reshape(4, h, w).copy()


def _overwrite(kept: RoomCopy | None) -> None:
    if kept is not None:
        kept.fill(0)
