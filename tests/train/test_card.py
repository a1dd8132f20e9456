"""The model card says where the weights come from and what the figures are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra: pip install -e .[train]")

from segmentation.bisenet import BiSeNet
from segmentation.engines.weights_file import fold
from tests.train.people import write_folder
from train.__main__ import main
from train.weights.export import Matting, to_openvino

RECIPE = """
name = "bisenet-tiny"
[data]
train = ["people"]
validation = ["people"]
[card]
about = "For tests alone."
limits = "Sees no one."
"""


def test_a_card_names_figures_data_failures_and_recipe(tmp_path: Path):
    import openvino as ov
    import torch

    torch.manual_seed(0)
    model = tmp_path / "tiny.xml"
    ov.save_model(to_openvino(Matting(fold(BiSeNet(0.125))).eval()), model)
    folder = write_folder(tmp_path / "val", 4)
    lines = ["name,source,licence,split",
             *(f"{i:03d},{'ab'[i % 2]},CC0,val" for i in range(4)), "t,a,CC0,train"]  # fmt: skip
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    recipe, card = tmp_path / "tiny.toml", tmp_path / "tiny.md"
    recipe.write_text(RECIPE)

    rooms = tmp_path / "rooms.csv"
    rooms.write_text(
        "image,split,source,licence,made_by\n"
        "a,train,r/one,MIT,hand\nb,train,r/two,MIT,hand\nc,report,r/three,MIT,hand\n"
    )

    code = main(["evaluate", str(folder), "-m", str(model), "--peer", str(model), "--recipe",
                 str(recipe), "--card", str(card), "--also", str(rooms)])  # fmt: skip

    assert code == 0
    text = card.read_text()
    assert text.startswith("# bisenet-tiny\n\nFor tests alone.\n")
    assert f"`{hashlib.sha256(model.read_bytes()).hexdigest()}`" in text
    assert f"`{hashlib.sha256(model.with_suffix('.bin').read_bytes()).hexdigest()}`" in text
    assert "| a | tiny | 2 |" in text
    assert "| a | CC0 | 1 | 2 |" in text
    assert "### rooms: 2 to learn from, 1 kept out to report\n\nMattes by hand." in text
    assert "- MIT: r/one 1, r/two 1\n" in text
    assert "Sees no one." in text
    assert text.count("- 00") == 4
    assert 'validation = ["people"]' in text


def test_a_card_that_cannot_be_written_is_told(tmp_path: Path, capsys):
    from train.errors import DataError
    from train.figures.model_card import write_card
    from train.figures.result import Result

    with pytest.raises(DataError, match=r"gone.card\.md: cannot be written: No such file"):
        write_card(tmp_path / "gone" / "card.md", [Result("x")], weights=[], manifest={},
                   recipe=None, recipe_text="", command="")  # fmt: skip
