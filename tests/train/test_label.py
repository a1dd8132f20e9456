"""Label: mattes for pictures that have none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.train.people import write_folder
from train.__main__ import main
from train.datasets import read_matte


def test_labels_are_the_weighted_mean_of_models_and_mirror_images(tmp_path: Path, monkeypatch):
    from train import label as labelling

    class Flat:
        def __init__(self, path: Path) -> None:
            self.value = float(str(path))

        def alpha(self, image):
            return np.full(image.shape[:2], self.value, np.float32)

        def close(self) -> None:
            pass

    monkeypatch.setattr(labelling, "open_subject", lambda path, way: Flat(path))
    folder = write_folder(tmp_path / "data", 2) / "img"

    count = labelling.label(folder, tmp_path / "out", [(Path("1.0"), 3.0), (Path("0.2"), 1.0)])

    assert count == 2
    assert read_matte(tmp_path / "out" / "mask" / "001.png").mean() == pytest.approx(0.8, abs=0.01)


def test_a_weight_that_is_no_number_is_told(tmp_path: Path, capsys):
    code = main(["label", str(tmp_path), "-o", str(tmp_path / "out"), "-m", "model.onnx"])

    assert code == 2
    assert "--model is 'model.onnx', expected FILE=WEIGHT" in capsys.readouterr().err
