"""Evaluate: the figures mean what they say, for models of any make."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra: pip install -e .[train]")

from segmentation.bisenet import BiSeNet
from segmentation.engines.weights_file import fold
from tests.train.people import person, write_folder
from train.__main__ import main
from train.figures import metrics
from train.figures.evaluate import buckets_of, frames
from train.subjects import Network, Program, planes
from train.weights.export import Matting, to_openvino


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    import openvino as ov
    import torch

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny.xml"
    ov.save_model(to_openvino(Matting(fold(BiSeNet(0.125))).eval()), path)
    return path


@pytest.mark.parametrize(
    ("skin", "bucket"),
    [
        ((85, 55, 42), "face, L* under 40"),
        ((150, 105, 85), "face, L* 40 to 55"),
        ((190, 140, 115), "face, L* 55 to 70"),
        ((235, 195, 175), "face, L* 70 and more"),
        ((90, 120, 200), None),
    ],
)
def test_pictures_are_told_apart_by_the_lightness_of_the_face(skin, bucket):
    image = np.full((120, 100, 3), (30, 60, 160), np.uint8)  # a blue room and a blue shirt
    truth = np.zeros((120, 100), np.float32)
    truth[10:, 20:80] = 1
    image[15:50, 35:65] = skin
    image[60:] = 250  # nothing below the face counts

    found = [name for name in buckets_of(image, truth) if name.startswith("face")]

    assert found == ([bucket] if bucket else [])


def square(top: int, left: int, size: int = 40) -> np.ndarray:
    alpha = np.zeros((100, 100), np.float32)
    alpha[top : top + size, left : left + size] = 1
    return alpha


def test_a_perfect_matte_has_perfect_figures():
    truth = square(30, 30)

    figures = metrics.images([truth], [truth])

    assert figures["miou"] == figures["boundary_f"] == figures["p5_person_iou"] == 1
    assert figures["leak"] == figures["cut"] == figures["mad"] == 0


def test_room_shown_is_leak_and_person_lost_is_cut():
    truth, shifted = square(30, 30), square(30, 40)

    figures = metrics.images([shifted], [truth])

    assert figures["leak"] == pytest.approx(400 / 8400)
    assert figures["cut"] == pytest.approx(400 / 1600)
    assert figures["person_iou"] == pytest.approx(1200 / 2000)
    assert figures["mad"] == pytest.approx(800 / 10000)


def test_an_empty_picture_without_a_false_alarm_has_a_perfect_outline():
    nothing = np.zeros((50, 50), bool)

    assert metrics.boundary_f(nothing, nothing) == 1
    assert metrics.boundary_f(square(0, 0) > 0, np.zeros((100, 100), bool)) == 0


def test_trembling_over_a_still_person_is_flicker_and_dtssd():
    truth = np.stack([square(30, 30)] * 4)
    trembling = truth.copy()
    trembling[1::2] *= 0.9

    figures = metrics.clip(trembling, truth)

    change = 0.1 * 1600 / 10000
    assert figures["flicker"] == pytest.approx(change * 1000, rel=1e-4)
    assert figures["dtssd"] == pytest.approx(np.sqrt(0.01 * 0.16) * 100, rel=1e-4)
    assert metrics.clip(truth, truth)["flicker"] == 0


def test_planes_are_limited_range_at_half_the_chroma():
    white, black = np.full((8, 10, 3), 255, np.uint8), np.zeros((8, 10, 3), np.uint8)

    y, u, v = planes(white)

    assert (y.shape, u.shape, v.shape) == ((8, 10), (4, 5), (4, 5))
    assert y.min() == y.max() == 235
    assert planes(black)[0].max() == 16
    assert abs(int(u.max()) - 128) <= 1


@pytest.mark.parametrize("size", [(75, 101), (96, 128)])
def test_a_matte_has_the_size_of_its_picture(model, size):
    image, _ = person(0, *size)

    for subject in (Network(model), Program(model, "still"), Program(model, "live")):
        alpha = subject.alpha(image)

        assert alpha.shape == size
        assert alpha.dtype == np.float32
        assert 0 <= alpha.min() <= alpha.max() <= 1
        subject.close()


def test_figures_are_given_by_source_and_written_as_json(model, tmp_path: Path, capsys):
    folder = write_folder(tmp_path / "val", 6)
    rows = ["name,source,licence", *(f"{i:03d},{'ab'[i % 2]},CC0" for i in range(6))]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    out = tmp_path / "figures.json"

    code = main(["evaluate", str(folder), "-m", str(model), "--way", "network", "--way", "still",
                 "--json", str(out)])  # fmt: skip

    assert code == 0
    results = json.loads(out.read_text())
    assert [r["name"] for r in results] == ["tiny", "tiny (still)"]
    assert {name: g["n"] for name, g in results[0]["groups"].items()} == {"a": 3, "b": 3, "all": 6}
    assert len(results[0]["pictures"]) == 6
    assert results[0]["milliseconds"] > 0
    printed = capsys.readouterr().out
    assert "| a | tiny | 3 |" in printed
    assert "| b | tiny (still) | 3 |" in printed


def test_clips_have_temporal_figures(model, tmp_path: Path, capsys):
    folder = write_folder(tmp_path / "val", 2)
    clip, alpha = tmp_path / "clip.avi", tmp_path / "alpha.avi"
    for path, of in ((clip, 0), (alpha, 1)):
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (128, 96))
        for _ in range(4):
            picture = person(3)[of]
            writer.write(picture[..., ::-1] if of == 0 else cv2.merge([picture] * 3))
        writer.release()
    out = tmp_path / "figures.json"

    code = main(["evaluate", str(folder), "-m", str(model), "--way", "live", "--clip", str(clip),
                 str(alpha), "--json", str(out)])  # fmt: skip

    assert code == 0
    figures = json.loads(out.read_text())[0]["clips"]["clip"]
    assert figures["n"] == 4 == len(list(frames(clip)))
    assert figures["flicker"] >= 0
    assert figures["dtssd"] >= 0


def test_a_folder_without_pictures_and_a_missing_model_are_told(model, tmp_path: Path, capsys):
    (tmp_path / "img").mkdir()

    assert main(["evaluate", str(tmp_path), "-m", str(model)]) == 1
    assert "0 pictures in img/" in capsys.readouterr().err

    folder = write_folder(tmp_path / "val", 1)
    assert main(["evaluate", str(folder), "-m", "missing.onnx"]) == 2
    assert "'missing.onnx' does not exist" in capsys.readouterr().err


def test_a_corrupt_picture_is_named(model, tmp_path: Path, capsys):
    folder = write_folder(tmp_path / "val", 2)
    (folder / "img" / "001.jpg").write_bytes(b"\xff\xd8 cut short")

    assert main(["evaluate", str(folder), "-m", str(model)]) == 1
    assert "001.jpg: 12 bytes that are not a picture" in capsys.readouterr().err


def test_the_worst_mattes_are_shown_on_a_sheet(model, tmp_path: Path):
    folder = write_folder(tmp_path / "val", 6)
    sheet = tmp_path / "worst.png"

    code = main(["evaluate", str(folder), "-m", str(model), "--sheet", str(sheet)])

    assert code == 0
    picture = cv2.imread(str(sheet))
    assert picture.shape[1] == 4 * 192
    assert picture[:192].std() > 10
