"""Learned rooms on disk: by the setting alone, private, handed back, and deleted when told."""

from __future__ import annotations

import stat
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from segmentation.motion.room import Room, RoomCopy
from tests.segmentation.test_room import Watched, wall
from vcam.files.rooms import EVERY, LARGEST, KeptRooms, forget_all

WEBCAM = SimpleNamespace(name="HD Webcam", live=True)


class Matting:
    """A matting whose room is known; what was handed to it."""

    def __init__(self, kept: RoomCopy | None) -> None:
        self.kept, self.recalled = kept, []

    def copy_room(self) -> RoomCopy | None:
        return None if self.kept is None else self.kept.copy()

    def recall_room(self, kept: RoomCopy) -> None:
        self.recalled.append(kept)


@pytest.fixture
def known() -> Room:
    """A room that was seen alone for three seconds."""
    watched = Watched()
    watched.see(wall(), count=45)
    return watched.room


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "rooms"


def kept_once(folder: Path, matting: Matting, source: object = WEBCAM) -> KeptRooms:
    rooms = KeptRooms(folder)
    rooms.follow(matting, source, 0.0, live=True, wanted=True)
    rooms.follow(matting, source, EVERY, live=True, wanted=True)
    return rooms


def test_nothing_is_written_without_the_setting(folder, known):
    rooms = KeptRooms(folder)

    for now in (0.0, EVERY, 2 * EVERY):
        rooms.follow(Matting(known.copy()), WEBCAM, now, live=True, wanted=False)

    assert not folder.exists()


def test_a_room_is_kept_for_this_user_alone_and_handed_back_to_its_camera(folder, known):
    kept_once(folder, Matting(known.copy()))
    (file,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"HD Webcam" not in file.read_bytes()

    matting, other = Matting(None), Matting(None)
    KeptRooms(folder).follow(matting, WEBCAM, 0.0, live=True, wanted=True)
    foreign = SimpleNamespace(name="Another", live=True)
    KeptRooms(folder).follow(other, foreign, 0.0, live=True, wanted=True)

    (back,) = matting.recalled
    assert np.array_equal(back, known.copy())
    assert other.recalled == []


def test_a_room_that_was_handed_back_is_known_until_another_is_seen(known):
    for scene, expected in ((wall(), 1.0), (wall(seed=5), 0.0)):
        watched = Watched()
        watched.room.recall(known.copy(), scene.shape[1:], watched.now)
        assert watched.room.known == 1.0
        person = np.zeros(scene.shape[1:], np.float32)
        person[20:, 60:130] = 1  # somebody is there from the first look on: nothing is seen alone
        watched.see(scene, person, count=4)
        assert watched.room.known == expected


def test_a_room_comes_back_at_another_size(known):
    room = Room()

    room.recall(known.copy(), (54, 96), 0.0)

    assert room.map.shape == (54, 96)
    assert room.known == 1.0


def test_what_is_damaged_or_of_no_use_is_not_handed_back(folder, known):
    kept_once(folder, Matting(known.copy()))
    (file,) = folder.iterdir()
    content = bytearray(file.read_bytes())
    content[200] ^= 1
    file.write_bytes(content)
    matting = Matting(None)

    KeptRooms(folder).follow(matting, WEBCAM, 0.0, live=True, wanted=True)

    assert matting.recalled == []
    assert not file.exists()


def test_a_room_larger_than_any_camera_s_is_not_handed_back(folder, known):
    kept_once(folder, Matting(np.zeros((4, 2, LARGEST), np.uint8)))
    matting = Matting(None)

    KeptRooms(folder).follow(matting, WEBCAM, 0.0, live=True, wanted=True)

    assert list(folder.iterdir())
    assert matting.recalled == []


@pytest.mark.parametrize("how", ["word", "setting", "command"])
def test_every_room_is_deleted_by_word_and_with_the_setting(folder, known, how):
    matting = Matting(known.copy())
    rooms = kept_once(folder, matting)
    assert list(folder.iterdir())
    matting.kept = None

    if how == "command":
        assert forget_all(folder)
        assert not forget_all(folder)
    else:
        if how == "word":
            rooms.forget()
        rooms.follow(matting, WEBCAM, 1.5 * EVERY, live=True, wanted=how == "word")

    assert not folder.exists()


def test_nothing_is_kept_of_a_camera_that_is_not_live_or_little_known(folder, known):
    kept_once(folder, Matting(None))
    kept_once(folder, Matting(known.copy()), SimpleNamespace(name="clip", live=False))
    rooms = KeptRooms(folder)
    for now in (0.0, EVERY):
        rooms.follow(Matting(known.copy()), WEBCAM, now, live=False, wanted=True)

    assert not folder.exists() or not list(folder.iterdir())


def test_little_that_is_known_is_no_copy():
    assert Room().copy() is None
