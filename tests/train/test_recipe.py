"""Recipes: read strictly, every problem told, the shipped ones in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.__main__ import main
from train.errors import RecipeError
from train.recipe import SHIPPED, load_recipe

GOOD = '[data]\ntrain = ["a"]\nvalidation = ["b"]\n'


def test_a_recipe_says_only_what_differs(tmp_path: Path):
    path = tmp_path / "r.toml"
    path.write_text(GOOD + "[fit]\nlearning_rate = 1\n")

    recipe = load_recipe(path)

    assert recipe.data.train == ("a",)
    assert recipe.fit.learning_rate == 1.0
    assert recipe.loss.dice == 0.5


def test_a_typo_is_answered_with_the_word_that_was_meant(tmp_path: Path, capsys):
    path = tmp_path / "r.toml"
    path.write_text(GOOD + "[fit]\nlerning_rate = 1e-3\nepochs = 2.5\n[netwrok]\nwidth = 1\n")

    code = main(["fit", str(path), "-o", str(tmp_path / "run")])

    told = capsys.readouterr().err
    assert code == 3
    assert "[fit] lerning_rate is not a setting, did you mean 'learning_rate'?" in told
    assert "[fit] epochs is 2.5, expected a whole number of 0 or more" in told
    assert "[netwrok] is not a setting, did you mean 'network'?" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[fit]\nepochs = -1", r"\[fit\] epochs is -1, expected a number of 0 or more"),
        ('[fit]\namp = "fp8"', r"\[fit\] amp is 'fp8', expected one of 'auto', 'bf16' or 'off'"),
        ("[distil]\nfeatures = 1", r"\[network\] imagenet is missing"),
        ("[fit]\nearly_side = 8", r"\[fit\] early_side is 8, expected 0 or 32 and more"),
        ("[fit]\nlow_side = 8", r"\[fit\] low_side is 8, expected 0 or 32 and more"),
        ('[fit]\nshapes = ["16:0"]', r"\[fit\] shapes is \['16:0'\], expected some like \"16:9\""),
        ("[fit]\nshapes = [16]", r"\[fit\] shapes is \[16\], expected a list of texts"),
        ("walls = -1", r"\[data\] walls is -1, expected a number of 0 or more"),
        ("[distil]\nshare = 1.5", r"\[distil\] share is 1.5, expected a number from 0 to 1"),
        ("[distil]\nalpha = 1.0", r"\[distil\] teacher is missing"),
        ("[fit]\nepochs = true", r"\[fit\] epochs is True, expected a whole number"),
        ("fit = 3", r"fit is 3, expected a \[section\] of settings"),
        ("[fit]\nlearning_rate = 0", r"\[fit\] learning_rate is 0, expected a number above 0"),
        (
            "[fit]\nlearning_rate = 1979-05-27",
            r"\[fit\] learning_rate is .*, expected a number above 0",
        ),
        ("[fit]\nema = 1.0", r"\[fit\] ema is 1.0, expected a number from 0 to below 1"),
        ("[fit]\nviews = 8", r"\[fit\] views is 8, expected a batch, 16, or more"),
        ("[augment]\nplane = 1", r"\[augment\] plane is not a setting, did you mean 'plain'\?"),
        ('[loss]\nbce = "1"', r"\[loss\] bce is '1', expected a number"),
        ("[fit]\nfits = 1", r"\[fit\] fits is not a setting, expected one of epochs, views"),
        ("[fit", "not TOML"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, told: str):
    path = tmp_path / "r.toml"
    path.write_text((text + "\n" + GOOD) if text.startswith("fit") else GOOD + text)

    with pytest.raises(RecipeError, match=told):
        load_recipe(path)


def test_a_missing_recipe_names_those_there_are(tmp_path: Path):
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "none.toml")

    assert "small" in caught.value.hint


def test_every_problem_is_a_line_of_its_own_and_sets_are_asked_for(tmp_path: Path):
    path = tmp_path / "r.toml"
    path.write_text("")

    with pytest.raises(RecipeError) as caught:
        load_recipe(path)

    assert caught.value.message.splitlines() == [
        f"{path}: [data] train is missing, expected at least one set",
        f"{path}: [data] validation is missing, expected at least one set",
    ]


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_understood(path: Path):
    assert load_recipe(Path(path.stem)).name
