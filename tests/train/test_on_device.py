"""Views made on a device, here the processor: what a seed gives is what the other path gives."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from tests.train.people import person, write_folder
from train.data.datasets import Pictures, find_pairs
from train.engine import Stepper
from train.fit import fit
from train.place import Place
from train.recipe import Data, Fit, Network, Recipe
from train.views.batches import Material, Views
from train.views.draw import Augment
from train.views.filters import coded_as_jpeg
from train.views.on_device import DeviceViews, fits
from train.views.plan import Plan

CPU = torch.device("cpu")
NOTHING = Augment(**{f.name: 0.0 for f in dataclasses.fields(Augment)} | {"zoom": 1.9})
PLAN = Plan(3, 32, 8, ((96, 160), (96, 96), (128, 96)))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_folder(root / "train", 10)
    write_folder(root / "pseudo", 4, seed=50)
    write_folder(root / "val", 3, seed=100)
    (root / "rooms").mkdir()
    for i, room in enumerate(rooms()):
        cv2.imwrite(str(root / "rooms" / f"{i}.png"), room[..., ::-1])
    return root


def rooms():
    made = []
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 255, (8, 9 + i, 3), np.uint8)
        made.append(cv2.resize(noise, (300, 200 + 20 * i), interpolation=cv2.INTER_CUBIC))
    return made


def both(root, options, epoch=0, index=0):
    """The same batch of both paths, as float arrays."""
    sets = [
        Pictures(find_pairs(root / name), longest=384, memory=1e9) for name in ("train", "pseudo")
    ]
    material = Material(*sets, 0.4, rooms(), options)
    theirs = Views(material, PLAN, epoch=epoch)[index]
    mine = DeviceViews(material, PLAN, CPU)(epoch, index)
    assert mine[0].dtype == torch.uint8
    assert mine[1].dtype == torch.float32
    return [x.astype(float) for x in theirs], [x.numpy().astype(float) for x in mine]


@pytest.mark.parametrize(
    ("what", "colours", "mattes"),
    [
        ({}, 3, 0.01),
        ({"rotate": 12.0}, 3, 0.01),
        ({"plain": 0.5, "head": 1.0, "stretch": 0.1, "composite": 0.5}, 4, 0.015),
        ({"empty": 1.0}, 4, 1e-6),
        ({"composite": 1.0}, 4, 0.015),
        ({"occlude": 1.0}, 4, 0.02),
        ({"composite": 0.5, "colour": 1.0, "dark": 0.5}, 5, 0.015),
        ({"soft": 1.0}, 4, 0.01),
        ({"blur": 1.0}, 4, 0.01),
        ({"chroma": 1.0}, 4, 0.01),
    ],
    ids=str,
)
def test_a_seed_gives_the_same_view_on_both_paths(root, what, colours, mattes):
    options = dataclasses.replace(NOTHING, **what)

    for index in range(3):
        (image, alpha), (seen, matte) = both(root, options, index=index)

        assert seen.shape == image.shape
        assert matte.shape == alpha.shape
        assert 0 <= matte.min() <= matte.max() <= 1
        # Each view by itself: one of eight that is mirrored would hide in the mean.
        assert np.abs(seen - image).mean((1, 2, 3)).max() < colours
        assert np.abs(matte - alpha).mean((1, 2)).max() < mattes


def test_noise_is_as_strong_as_on_the_other_path(root):
    quiet, loud = NOTHING, dataclasses.replace(NOTHING, noise=1.0)

    (_, _), (still, _) = both(root, quiet)
    (theirs, _), (mine, _) = both(root, loud)

    # Away from black and white, where it is cut off.
    middle = (still > 50) & (still < 205)
    spread = [np.std(np.where(middle, x - still, 0), axis=(1, 2, 3)) for x in (theirs, mine)]
    assert spread[1].max() > 2
    assert np.allclose(*spread, rtol=0.15, atol=0.4)


@pytest.mark.parametrize("quality", [25, 50, 80, 94])
def test_a_jpeg_is_as_coarse_as_a_real_one(quality):
    image = np.ascontiguousarray(person(0)[0][:96, :96])
    image = cv2.resize(image, (96, 96))
    image = np.clip(image + np.random.default_rng(0).normal(0, 6, image.shape), 0, 255)
    image = image.astype(np.uint8)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    wanted = cv2.imdecode(cv2.imencode(".jpg", image[..., ::-1], options)[1], cv2.IMREAD_COLOR)

    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    found = coded_as_jpeg(x, [quality])[0].permute(1, 2, 0).numpy().clip(0, 255)

    lost = np.abs(image.astype(float) - wanted[..., ::-1]).mean()
    assert np.abs(found - wanted[..., ::-1]).mean() < 0.4 * lost + 0.5
    assert np.abs(found - image).mean() == pytest.approx(lost, rel=0.15)


def test_a_batch_is_the_same_whenever_it_is_asked_for(root):
    pictures = Pictures(find_pairs(root / "train"), longest=384, memory=1e9)
    material = Material(pictures, None, 0, rooms(), Augment())
    views = [DeviceViews(material, PLAN, CPU) for _ in range(2)]

    views[0](0, 0)
    first, second = views[0](1, 2), views[1](1, 2)

    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first[0], views[0](1, 3)[0][:8, : first[0].shape[1]])


def test_pictures_that_are_read_again_and_again_stay_on_the_disk(root):
    pairs = find_pairs(root / "train")

    assert fits([Pictures(pairs, longest=384, memory=1e9)], [], CPU)
    assert not fits([Pictures(pairs, longest=384, memory=0)], [], CPU)


def test_fitting_on_views_of_the_device_learns(root, tmp_path, monkeypatch):
    recipe = Recipe(
        name="tiny",
        network=Network(width=0.05),
        data=Data(train=("train",), validation=("val",), pseudo=("pseudo",), rooms="rooms"),
        fit=Fit(epochs=1, views=240, batch=8, side=48, warmup=2, sheet=9, amp="off"),
    )
    losses = []
    step = Stepper.__call__

    def noted(self, batch, rng):
        assert isinstance(batch[0], torch.Tensor), "the views were made elsewhere"
        losses.append(sum((terms := step(self, batch, rng)).values()))
        return terms

    monkeypatch.setattr(Stepper, "__call__", noted)
    assert fit(recipe, root, tmp_path / "run", Place(workers=0, resident=True))

    assert len(losses) == 30
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:8])
