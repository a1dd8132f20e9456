"""A graph without its end, and the end done outside of it, say what the whole graph says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset8 as ops

from segmentation.engines import tails
from segmentation.engines.layout import weights_dir
from segmentation.engines.openvino import OpenVinoEngine

SIZES = ((224, 384), (192, 224))


@contextmanager
def engine(name: str) -> Iterator[OpenVinoEngine]:
    opened = OpenVinoEngine(weights_dir() / name)
    try:
        yield opened
    finally:
        opened.close()


@pytest.mark.parametrize(
    "name", ["bisenet-small.xml", "bisenet-small-int8.xml", "bisenet-r18-int8.xml"]
)
def test_a_network_says_the_same_whoever_doubles_its_logits(name, monkeypatch):
    answers: list[list[Any]] = []
    for cut in (tails.cut, lambda graph: None):
        monkeypatch.setattr(tails, "cut", cut)
        with engine(name) as opened:
            assert (opened._tail is None) == bool(answers)
            rng = np.random.default_rng(4)
            answers.append([])
            for size in SIZES:
                x = rng.normal(0, 1.2, (1, opened.layout.inputs, *size)).astype(np.float32)
                x[:, 3:] = 0
                x[0, :3, 60:, 90:170] += 1.5
                answers[-1].append(opened.infer(x).copy())

    for ours, whole in zip(*answers, strict=True):
        assert ours.shape == whole.shape
        assert np.ptp(whole) > 1e-4
        assert np.abs(ours - whole).max() < 1e-5


def test_logits_of_any_size_become_alpha_and_what_is_no_number_stays_none():
    tail = tails.Tail(0.5)
    logits = np.full((1, 1, 8, 8), 0.5, np.float32)
    logits[0, 0, :, :2], logits[0, 0, :, 6:], logits[0, 0, 3, 4] = -1e4, 1e4, np.nan

    alpha = tail(logits)

    assert alpha[0, 6] == 0.5
    assert (alpha[:, 0].max(), alpha[:, -1].min()) == (0, 1)
    assert np.isnan(alpha[6, 8])
    tail.wipe()
    assert not tail._alpha.any()


def test_the_matte_of_one_size_is_overwritten_before_one_of_another():
    tail = tails.Tail(0.0)
    person = tail(np.full((1, 1, 8, 8), 9, np.float32))
    assert person.all()

    tail(np.zeros((1, 1, 4, 8), np.float32))

    assert not person.any()


def model(*, tent: Any = tails.TENT, mode: str = "edge", steps: int = 2) -> Any:
    """A graph that ends as a BiSeNet's does, or nearly."""
    x = ops.parameter([1, 1, 32, 32], np.float32, name="x")
    around = ops.constant(np.array([0, 0, 1, 1]))
    padded = ops.pad(x, around, around, mode, arg_pad_value=ops.constant(np.float32(0)))
    weights = ops.constant(np.asarray(tent, np.float32)[None, None])
    double = ops.convolution_backprop_data(padded, weights, [steps] * 2, None, [3, 3], [3, 3])
    graph = openvino.Model([ops.sigmoid(double)], [x], "end")
    graph.reshape([1, 1, 32, 32])
    return graph


def test_only_an_end_that_doubles_bilinearly_is_cut():
    other = tails.TENT + np.eye(4) / 50

    assert tails.cut(model()) is not None
    assert tails.cut(model(mode="constant")) is None
    assert tails.cut(model(tent=other)) is None
    assert tails.cut(model(steps=1)) is None
