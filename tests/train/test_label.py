"""Label and teachers: mattes from models that have learnt already."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.train.people import write_folder
from train.__main__ import main
from train.data.datasets import read_matte
from train.errors import UsageError
from train.views.teachers import Teachers, weighted


def test_labels_are_the_weighted_mean_of_models_and_mirror_images(tmp_path: Path, monkeypatch):
    from train import label as labelling

    class Flat:
        def __init__(self, path: Path) -> None:
            self.value = float(str(path))

        def alpha(self, image):
            return np.full(image.shape[:2], self.value, np.float32)

        def close(self) -> None:
            pass

    monkeypatch.setattr(labelling, "open_subject", lambda path, way, quality: Flat(path))
    folder = write_folder(tmp_path / "data", 2) / "img"

    models = [(Path("1.0"), 0.75), (Path("0.2"), 0.25)]
    count = labelling.label(folder, tmp_path / "out", models)
    labelling.label(folder, tmp_path / "steep", models, stretch=1.5)

    assert count == 2
    assert read_matte(tmp_path / "steep" / "mask" / "001.png").mean() == pytest.approx(
        0.95, abs=0.01
    )
    assert read_matte(tmp_path / "out" / "mask" / "001.png").mean() == pytest.approx(0.8, abs=0.01)


def test_a_picture_s_own_matte_stays_its_share_unless_the_models_see_somebody_else(
    tmp_path: Path, monkeypatch
):
    from train import label as labelling

    class Half:
        def __init__(self, path: Path) -> None:
            self.value = float(str(path))

        def alpha(self, image):
            return (image[..., 0] > 128).astype(np.float32) * self.value

        def close(self) -> None:
            pass

    monkeypatch.setattr(labelling, "open_subject", lambda path, way, quality: Half(path))
    (tmp_path / "img").mkdir()
    (tmp_path / "mask").mkdir()
    white = np.full((64, 64), 255, np.uint8)
    for name, rows in (("same", 64), ("other", 8)):
        cv2.imwrite(str(tmp_path / "img" / f"{name}.png"), white)
        matte = np.zeros((64, 64), np.uint8)
        matte[:rows] = 255
        cv2.imwrite(str(tmp_path / "mask" / f"{name}.png"), matte)

    labelling.label(tmp_path, tmp_path / "out", [(Path("0.9"), 1.0)], truth=0.6)

    same, other = (read_matte(tmp_path / "out" / "mask" / f"{n}.png") for n in ("same", "other"))
    assert same == pytest.approx(0.96, abs=0.005)
    assert other.mean() == pytest.approx(8 / 64)


def test_a_weight_that_is_no_number_is_told(tmp_path: Path, capsys):
    code = main(["label", str(tmp_path), "-o", str(tmp_path / "out"), "-m", "model.onnx"])

    assert code == 2
    assert "model is 'model.onnx', expected FILE=WEIGHT" in capsys.readouterr().err


def test_a_teacher_s_share_goes_into_every_view_that_shows_somebody(monkeypatch):
    from train.views import teachers

    class Wider:
        def alpha(self, image):
            alpha = np.zeros(image.shape[:2], np.float32)
            alpha[: int(image.mean())] = 1
            return alpha

    monkeypatch.setattr(teachers, "open_subject", lambda path, way: Wider())
    images = np.full((3, 8, 8, 3), 6, np.uint8)
    images[2] = 8
    alphas = np.zeros((3, 8, 8), np.float32)
    alphas[::2, :5] = 1

    seen, mixed = Teachers([(Path("a"), 0.5), (Path("b"), 0.5)], 0.4)((images, alphas))

    assert seen is images
    assert mixed[0, :, 0] == pytest.approx([1, 1, 1, 1, 1, 0.4, 0, 0])
    assert not mixed[1].any(), "an empty room stays empty, whoever the teacher sees in it"
    assert (mixed[2] == alphas[2]).all(), "a teacher who sees another person is not heard"
    assert not alphas[0, 5, 0], "the truth itself is not changed"


def test_weights_of_models_add_up_to_one_and_must_be_positive():
    assert weighted(["a=b.onnx=3", "c.onnx=1"], Path("x")) == [
        (Path("x/a=b.onnx"), 0.75),
        (Path("x/c.onnx"), 0.25),
    ]
    with pytest.raises(UsageError, match="must be positive"):
        weighted(["a.onnx=1", "b.onnx=-1"])


def test_the_mattes_that_models_disagree_with_are_listed_first(tmp_path: Path, monkeypatch):
    from train.figures import doubts

    class Truth:
        def alpha(self, image):
            return (image[..., 0] > 128).astype(np.float32)

        def close(self) -> None:
            pass

    monkeypatch.setattr(doubts, "open_subject", lambda path, way, quality: Truth())
    (tmp_path / "img").mkdir()
    (tmp_path / "mask").mkdir()
    for name, rows in (("good", 64), ("wrong", 16), ("rough", 48)):
        picture = np.zeros((96, 64), np.uint8)
        picture[:64] = 255
        cv2.imwrite(str(tmp_path / "img" / f"{name}.png"), cv2.merge([picture] * 3))
        matte = np.zeros((96, 64), np.uint8)
        matte[:rows] = 255
        cv2.imwrite(str(tmp_path / "mask" / f"{name}.png"), matte)
    output, sheet = tmp_path / "doubts.csv", tmp_path / "worst.png"

    code = main(["doubts", str(tmp_path), "-o", str(output), "-m", "a=1", "--sheet", str(sheet)])

    assert code == 0
    listed = [line.split(",")[:2] for line in output.read_text().splitlines()[1:]]
    assert listed == [["wrong", "0.2500"], ["rough", "0.7500"], ["good", "1.0000"]]
    assert cv2.imread(str(sheet)) is not None
