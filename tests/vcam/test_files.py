"""Files are whole or not there, and what was there stays."""

from __future__ import annotations

import errno
import os
import stat
import time
from itertools import islice
from pathlib import Path

import pytest

from vcam.files import whole
from vcam.files.whole import Draft, numbered, replace_file, write_file


@pytest.fixture(params=["nameless", "hidden", "no second names"])
def kind(request, monkeypatch):
    """Each kind of file system: with nameless whole, without, and without hard links."""
    if request.param != "nameless":
        monkeypatch.setattr(whole, "_NAMELESS", 0)
    if request.param == "no second names":

        def refuse(*args, **options):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
    return request.param


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_draft_that_gets_no_name_leaves_nothing(kind, tmp_path):
    with Draft(tmp_path) as draft:
        draft.write(b"half")
        assert (names(tmp_path) == []) == (kind == "nameless")

    assert names(tmp_path) == []


def test_a_draft_takes_the_first_free_name_and_replaces_nothing(kind, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"mine")
    (tmp_path / "a 2.txt").symlink_to("nowhere")

    with Draft(tmp_path, mode=0o600) as draft:
        draft.write(b"new")
        name = draft.appear(numbered(tmp_path / "a.txt"))
        draft.write(b" and more")

    assert name == tmp_path / "a 3.txt"
    assert name.read_bytes() == b"new and more"
    assert stat.S_IMODE(name.stat().st_mode) == 0o600
    assert (tmp_path / "a.txt").read_bytes() == b"mine"
    assert names(tmp_path) == ["a 2.txt", "a 3.txt", "a.txt"]


def test_a_named_draft_can_be_renamed_and_replaces_only_what_it_is_told_to(kind, tmp_path):
    (tmp_path / "out").write_bytes(b"old")
    (tmp_path / "out").chmod(0o640)

    with Draft(tmp_path) as draft:
        draft.write(b"whole")
        draft.appear([tmp_path / "part"])
        with pytest.raises(FileExistsError):
            draft.appear([tmp_path / "out"])
        assert (tmp_path / "out").read_bytes() == b"old"
        draft.replace(tmp_path / "out")

    assert (tmp_path / "out").read_bytes() == b"whole"
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640
    assert names(tmp_path) == ["out"]


def test_a_draft_appears_in_its_folder_wherever_that_went(kind, tmp_path):
    (tmp_path / "here").mkdir()

    with Draft(tmp_path / "here") as draft:
        draft.write(b"x")
        (tmp_path / "here").rename(tmp_path / "there")
        draft.appear([tmp_path / "here" / "a"])

    assert (tmp_path / "there" / "a").read_bytes() == b"x"


def test_a_draft_in_a_folder_that_is_gone_says_so(kind, tmp_path):
    (tmp_path / "here").mkdir()

    with Draft(tmp_path / "here") as draft:
        for path in (tmp_path / "here").iterdir():
            path.unlink()
        (tmp_path / "here").rmdir()
        with pytest.raises(FileNotFoundError):
            draft.appear([tmp_path / "here" / "a"])


def test_a_new_file_is_not_written_over_another_and_leaves_nothing(kind, tmp_path):
    (tmp_path / "a").write_bytes(b"mine")

    with pytest.raises(FileExistsError):
        write_file(tmp_path / "a", b"new", replace=False)

    assert (tmp_path / "a").read_bytes() == b"mine"
    assert names(tmp_path) == ["a"]


def test_a_link_keeps_leading_to_the_file_that_is_replaced(kind, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "config.toml").write_text("old")
    (tmp_path / "config.toml").symlink_to("real/config.toml")

    replace_file(tmp_path / "config.toml", "new")

    assert (tmp_path / "config.toml").is_symlink()
    assert (tmp_path / "real" / "config.toml").read_text() == "new"
    assert names(tmp_path / "real") == ["config.toml"]


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="chown needs root")
def test_a_file_that_root_replaces_stays_its_owners(kind, tmp_path):
    (tmp_path / "config.toml").write_text("old")
    os.chown(tmp_path / "config.toml", 12345, 54321)

    replace_file(tmp_path / "config.toml", "new")

    facts = (tmp_path / "config.toml").stat()
    assert (facts.st_uid, facts.st_gid) == (12345, 54321)


def test_what_a_killed_program_left_is_swept_and_what_is_being_written_is_not(tmp_path):
    old, young = tmp_path / ".a.toml.00000000.part", tmp_path / ".a.toml.11111111.part"
    other = tmp_path / ".b.toml.00000000.part"
    for path in (old, young, other):
        path.write_text("left")
    for path in (old, other):
        os.utime(path, (0, time.time() - 7200))

    replace_file(tmp_path / "a.toml", "x")

    assert names(tmp_path) == [young.name, other.name, "a.toml"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(kind, small_disk):
    (small_disk / "a").write_text("old")

    with pytest.raises(OSError, match="No space"):
        replace_file(small_disk / "a", "x" * 3_000_000)

    assert (small_disk / "a").read_text() == "old"
    assert names(small_disk) == ["a"]


def test_after_a_gap_a_draft_takes_nothing_more(small_disk):
    with Draft(small_disk) as draft:
        draft.write(b"x" * 100_000)
        with pytest.raises(OSError, match="No space"):
            draft.write(b"x" * 3_000_000)
        draft.cut(100_000)

        with pytest.raises(OSError, match="No space"):
            draft.write(b"y")  # there is room for it again


def test_numbers_stand_before_the_ending():
    assert [p.name for p in islice(numbered(Path("rec.mp4")), 3)] == [
        "rec.mp4",
        "rec 2.mp4",
        "rec 3.mp4",
    ]
    assert [p.name for p in islice(numbered(Path("rec")), 2)] == ["rec", "rec 2"]
