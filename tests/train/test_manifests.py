"""Manifests: what is kept out is kept out by room and by source, and licences choose."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.train.people import write_folder
from train.__main__ import main
from train.data.manifests import find_rooms, find_set, read_room, read_rooms
from train.data.sources import KEPT_OUT
from train.errors import DataError


def write_rooms(folder: Path, rows: list[dict[str, str]]) -> None:
    """Write a grey picture for each row, and the manifest."""
    folder.mkdir(parents=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        cv2.imwrite(str(folder / f"{row['name']}.png"), np.full((64, 64, 3), 90, np.uint8))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder like the one `train sets` reads."""
    folder = tmp_path / "all"
    write_folder(folder / "portraits" / "train", 4)
    write_folder(folder / "portraits" / "val", 12, seed=9)
    with (folder / "portraits" / "manifest.csv").open("w", newline="") as file:
        file.write("name,split,source,licence,mask_kind,group\n")
        file.writelines(f"{i:03d},train,a/selfies,CC0,binary,t{i}\n" for i in range(4))
        file.writelines(
            f"{i:03d},val,a/selfies,none stated,binary,group {7 * i}\n" for i in range(12)
        )
    out = KEPT_OUT["people"][0]
    write_folder(folder / "people" / "heads", 4, seed=20)
    with (folder / "people" / "manifest.csv").open("w", newline="") as file:
        file.write("set,name,source,licence,teachers\n")
        file.writelines(f"heads,{i:03d},{'b/heads' if i % 2 else out},MIT,3\n" for i in range(4))
    houses = [
        {"name": f"h{i}{room}", "source": "emanhamed/Houses-dataset", "kind": room,
         "source_path": f"Houses Dataset/{i}_{room}.jpg"}
        for i in range(40) for room in ("bedroom", "kitchen")
    ]  # fmt: skip
    write_rooms(folder / "rooms", houses)
    shown = KEPT_OUT["rooms2"][0]
    more = [
        {"name": f"r{i}", "source": shown if i % 2 else "c/rooms", "licence": "MIT",
         "kind": "living room (Places365)" if i % 4 == 0 else "sofa"}
        for i in range(8)
    ]  # fmt: skip
    write_rooms(folder / "rooms2", more)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_kept_out_is_kept_out_by_source_and_by_house(data: Path, tmp_path: Path, capsys):
    output = tmp_path / "manifests"

    code = main(["sets", str(data), "-o", str(output)])

    assert code == 0
    assert "4 train" in capsys.readouterr().out
    for name in ("people", "rooms", "portraits"):
        rows = rows_of(output / f"{name}.csv")
        assert all((output / row["image"]).is_file() for row in rows)
        splits: dict[str, set[str]] = {}
        for row in rows:
            splits.setdefault(row["group"], set()).add(row["split"])
        assert all(len(found) == 1 for found in splits.values()), "no group on two sides"
    rooms = rows_of(output / "rooms.csv")
    assert {r["split"] for r in rooms if r["source"] == KEPT_OUT["rooms2"][0]} & {
        "choose",
        "report",
    }
    assert {r["split"] for r in rooms if r["source"] == "c/rooms"} == {"train"}
    assert len({r["split"] for r in rooms if r["source"].startswith("emanhamed")}) > 1
    people = rows_of(output / "people.csv")
    assert {r["split"] == "train" for r in people if r["source"] == "b/heads"} == {True}
    assert "MediaPipe" in people[0]["made_by"]


def test_a_set_has_its_split_and_only_the_licences_that_are_allowed(data: Path, tmp_path: Path):
    main(["sets", str(data), "-o", str(tmp_path)])

    def size(split: str, *licences: str) -> int:
        return len(find_set("portraits.csv", tmp_path, split, licences))

    assert size("train") == size("train", "CC0", "MIT") == 4
    assert size("val") == size("choose"), "weights are chosen by one half"
    assert size("choose") + size("report") == 12
    with pytest.raises(DataError, match="split 'train' is empty"):
        size("train", "MIT")
    people = data / "people" / "heads"
    assert len(find_set(str(people), tmp_path, "train", ["MIT"])) == 4
    with pytest.raises(DataError, match="no picture under CC0"):
        find_set(str(people), tmp_path, "train", ["CC0"])


def test_rooms_come_from_a_folder_or_from_a_manifest_in_their_own_shape(data: Path, tmp_path: Path):
    main(["sets", str(data), "-o", str(tmp_path)])

    squashed = {row["kind"]: (path, row) for path, row in find_rooms(tmp_path / "rooms.csv")}

    assert read_room(*squashed["sofa"]).shape == (64, 64, 3)
    height, width = read_room(*squashed["living room (Places365)"]).shape[:2]
    assert (width, height) in ((74, 55), (85, 48)), "4:3 or 16:9, and as many pixels"
    assert len(read_rooms(data / "rooms2")) == 8
    assert len(read_rooms(tmp_path / "rooms.csv", ["MIT"])) == 4
    with pytest.raises(DataError, match="holds no pictures"):
        read_rooms(tmp_path / "rooms.csv", ["CC0"])


def test_a_folder_without_any_of_them_and_a_manifest_without_columns_are_told(
    tmp_path: Path, capsys
):
    assert main(["sets", str(tmp_path), "-o", str(tmp_path / "out")]) == 1
    assert "holds none of portraits" in capsys.readouterr().err

    (tmp_path / "odd.csv").write_text("image,split\na.png,train\n")
    with pytest.raises(DataError, match="has no column 'matte'"):
        find_set("odd.csv", tmp_path, "train")
