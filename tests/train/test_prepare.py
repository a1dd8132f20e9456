"""Prepare: every pair of a dataset is looked at once, and no person is on both sides of a split."""

from __future__ import annotations

import csv
import errno
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.train.people import person, write_folder
from train.__main__ import main
from train.data import prepare as preparing
from train.data.manifests import find_set
from train.data.prepare import find, prepare, split
from train.errors import DataError


def write_aisegment(root: Path, count: int) -> Path:
    """Write a miniature of the AISegment tree, with the Mac's leftovers its archive carries."""
    for i in range(count):
        image, matte = person(100 + i)
        clip = root / "clip_img" / "1803151818" / f"clip_{i // 4:08d}"
        matting = root / "matting" / "1803151818" / f"matting_{i // 4:08d}"
        for folder in (clip, matting):
            folder.mkdir(parents=True, exist_ok=True)
        cut_out = np.dstack([image[..., ::-1] * (matte[..., None] > 0), matte])
        cv2.imwrite(str(clip / f"1803151818-{i:08d}.jpg"), image[..., ::-1])
        cv2.imwrite(str(matting / f"1803151818-{i:08d}.png"), cut_out)
        (clip / f"._1803151818-{i:08d}.jpg").write_bytes(b"Mac OS X")
    return root


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_aisegment_tree_becomes_a_manifest_that_fit_reads(tmp_path: Path, capsys):
    tree = write_aisegment(tmp_path / "aisegment", 12)
    manifest = tmp_path / "people.csv"

    code = main(["prepare", str(tree), "-o", str(manifest), "--validation", "0.25"])

    assert code == 0
    assert "9 train, 3 val" in capsys.readouterr().out
    train = find_set("people.csv", tmp_path, "train")
    held_out = find_set("people.csv", tmp_path, "val")
    assert len(train) == 9
    assert len(held_out) == 3
    assert {p.image.stem for p in train}.isdisjoint(p.image.stem for p in held_out)
    assert all(p.image.stem == p.matte.stem for p in train + held_out)
    assert all(p.image.exists() and p.matte.exists() for p in train + held_out)


def test_what_cannot_be_used_is_left_out_and_named(tmp_path: Path, capsys):
    folder = write_folder(tmp_path / "set", 9)
    (folder / "img" / "000.jpg").write_bytes(b"\xff\xd8 cut short")
    (folder / "mask" / "001.png").write_bytes(b"")
    cv2.imwrite(str(folder / "mask" / "002.png"), np.zeros((96, 128), np.uint8))
    cv2.imwrite(str(folder / "mask" / "003.png"), np.full((50, 128), 255, np.uint8))
    (folder / "mask" / "004.png").unlink()
    (folder / "img" / "005.jpg").unlink()
    cv2.imwrite(str(folder / "mask" / "006.png"), np.full((96, 128), 255, np.uint8))

    code = main(["prepare", str(folder), "-o", str(tmp_path / "m.csv")])

    assert code == 0
    left_out = {Path(r["image"]).stem: r["why"] for r in rows_of(tmp_path / "m.left-out.csv")}
    assert left_out == {
        "000": "picture: 12 bytes that are not a picture",
        "001": "matte: 0 bytes that are not a picture",
        "002": "matte is empty",
        "003": "matte is 128x50, picture 128x96",
        "004": "no matte",
        "005": "no picture",
        "006": "matte covers everything",
    }
    assert [Path(r["image"]).stem for r in rows_of(tmp_path / "m.csv")] == ["007", "008"]
    assert "7 left out" in capsys.readouterr().out


def test_near_duplicates_stay_on_one_side(tmp_path: Path):
    folder = write_folder(tmp_path / "set", 8)
    for i in range(8):
        image = cv2.imread(str(folder / "img" / f"{i:03d}.jpg"))
        matte = cv2.imread(str(folder / "mask" / f"{i:03d}.png"), cv2.IMREAD_GRAYSCALE)
        smaller = cv2.resize(image, (104, 80), interpolation=cv2.INTER_AREA)
        altered = {"dark": image // 2, "mirrored": image[:, ::-1], "smaller": smaller}
        for name, copy in altered.items():
            quality = [cv2.IMWRITE_JPEG_QUALITY, 60]
            cv2.imwrite(str(folder / "img" / f"{i:03d}{name}.jpg"), copy, quality)
            size = copy.shape[1::-1]
            cv2.imwrite(str(folder / "mask" / f"{i:03d}{name}.png"), cv2.resize(matte, size))

    prepared = prepare([folder], tmp_path / "m.csv", validation=0.5)

    assert prepared.groups == 8
    sides: dict[str, set[str]] = {}
    for row in rows_of(tmp_path / "m.csv"):
        sides.setdefault(Path(row["image"]).stem[:3], set()).add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
    assert prepared.splits == {"train": 16, "val": 16}


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch):
    folder = write_folder(tmp_path / "set", 10)
    looked: list[str] = []
    check = preparing.check

    def counted(pair, root):
        if len(looked) == 6:
            raise KeyboardInterrupt
        looked.append(pair.image.stem)
        return check(pair, root)

    monkeypatch.setattr(preparing, "SAVE_EVERY", 2)
    monkeypatch.setattr(preparing, "check", counted)
    with pytest.raises(KeyboardInterrupt):
        prepare([folder], tmp_path / "m.csv")
    journal = tmp_path / "m.checked.csv"
    journal.write_text(journal.read_text() + "../half a line")
    looked.clear()
    monkeypatch.setattr(preparing, "check", lambda p, r: looked.append(p.image.stem) or check(p, r))

    prepare([folder], tmp_path / "m.csv")

    assert sorted(looked) == ["006", "007", "008", "009"]
    assert len(rows_of(tmp_path / "m.csv")) == 10


def test_a_picture_that_changed_is_looked_at_again(tmp_path: Path):
    folder = write_folder(tmp_path / "set", 4)
    prepare([folder], tmp_path / "m.csv")
    (folder / "img" / "000.jpg").write_bytes(b"now broken")

    prepared = prepare([folder], tmp_path / "m.csv")

    assert [row.why for row in prepared.left_out] == ["picture: 10 bytes that are not a picture"]


def test_the_list_of_the_seed_is_read_with_and_without_heading(tmp_path: Path):
    write_aisegment(tmp_path, 3)
    lines = [f"{p.image.relative_to(tmp_path)},{p.matte.relative_to(tmp_path)}"
             for p in find(tmp_path)[0]]  # fmt: skip
    (tmp_path / "dataset.csv").write_text("\n".join(["image,mask", *lines]))
    (tmp_path / "bare.csv").write_text("\n".join(lines))

    assert find(tmp_path / "dataset.csv") == find(tmp_path / "bare.csv")
    assert len(find(tmp_path / "bare.csv")[0]) == 3


def test_the_same_pictures_are_split_alike_each_time():
    groups = [0, 0, 1, 2, 2, 2, 3, 4, 5, 6]

    assert split(groups, 0.3) == split(groups, 0.3)
    assert split(groups, 0.3).count("val") <= 3
    assert set(split([0], 0.5)) == {"train"}
    assert set(split([0, 1], 0.01)) == {"train", "val"}


def test_shards_are_packed_for_training(tmp_path: Path):
    folder = write_folder(tmp_path / "set", 5)

    code = main(["prepare", str(folder), "-o", str(tmp_path / "m.csv"), "--validation", "0.2",
                 "--shards", str(tmp_path / "shards"), "--shard-size", "2"])  # fmt: skip

    assert code == 0
    assert [p.name for p in sorted((tmp_path / "shards").iterdir())] == ["000000.tar", "000001.tar"]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda path: None, "there is no such folder"),
        (lambda path: path.mkdir(), "holds neither of these"),
        (lambda path: [(path / n).mkdir(parents=True) for n in ("img", "mask")], "it is empty"),
    ],
)
def test_a_source_without_pairs_is_told(tmp_path: Path, capsys, build, message):
    build(tmp_path / "set")

    code = main(["prepare", str(tmp_path / "set"), "-o", str(tmp_path / "m.csv")])

    assert code == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "m.csv").exists()


def test_a_full_disk_keeps_the_manifest_before_it(tmp_path: Path, monkeypatch):
    folder = write_folder(tmp_path / "set", 4)
    prepare([folder], tmp_path / "m.csv")
    before = (tmp_path / "m.csv").read_bytes()

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(preparing, "_flush", full)
    with pytest.raises(DataError, match="No space left"):
        prepare([folder], tmp_path / "m.csv", validation=0.5)

    assert (tmp_path / "m.csv").read_bytes() == before
