"""Networks that are wrong are refused before one of their mattes counts; right ones pass."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from segmentation.engines import answers, choice
from segmentation.engines.openvino import OpenVinoEngine
from segmentation.errors import EngineError, UntrustedError
from segmentation.segmenter import Machine, Segmenter
from segmentation.sizes import AREAS, input_size
from tests.segmentation import tiny_models

WEIGHTS = Path(__file__).parents[2] / "segmentation" / "weights"
SMALL = WEIGHTS / "bisenet-small.xml"
PEERS = Path(__file__).parents[3] / "shared" / "data" / "peers"
if not PEERS.is_dir():
    PEERS = Path(__file__).parents[4] / "shared" / "data" / "peers"
SIZES = sorted(
    {
        input_size(h, w, area)[0]
        for area in AREAS.values()
        for h, w in ((720, 1280), (480, 640), (1280, 720), (512, 512), (1080, 1920), (240, 320))
    }
)


def const(value: object, kind: type = np.float32) -> ov.Node:
    return ops.constant(np.array(value, kind))


def flipped(alpha: ov.Output, axis: int) -> ov.Node:
    # A slice from the end to the beginning.
    return ops.slice(alpha, *(const([x], np.int64) for x in (-1, np.iinfo(np.int64).min, -1, axis)))


def noise(alpha: ov.Output) -> ov.Node:
    grain = ops.random_uniform(
        ops.shape_of(alpha), const(0.0), const(1.0), "f32", global_seed=1, op_seed=1
    )
    return ops.add(ops.multiply(alpha, const(0.0)), grain)


def blob(alpha: ov.Output) -> ov.Node:
    """Make a body in the middle, whatever the picture shows."""
    h, w = 224, 384
    y, x = np.mgrid[:h, :w].astype(np.float32)
    body = ((x - w / 2) / (w / 4)) ** 2 + ((y - h) / (0.8 * h)) ** 2 < 1
    return ops.add(ops.multiply(alpha, const(0.0)), const(body[None, None]))


SPOILS: dict[str, Callable[[ov.Output], ov.Node]] = {
    "inverted": lambda a: ops.subtract(const(1.0), a),
    "nobody": lambda a: ops.multiply(a, const(0.0)),
    "everything": lambda a: ops.add(ops.multiply(a, const(0.0)), const(1.0)),
    "undecided": lambda a: ops.add(ops.multiply(a, const(0.0)), const(0.5)),
    "upside down": lambda a: flipped(a, 2),
    "mirrored": lambda a: flipped(a, 3),
    "noise": noise,
    "no number": lambda a: ops.divide(a, ops.multiply(a, const(0.0))),
    "a blob": blob,
    "too much": lambda a: ops.multiply(a, const(3.0)),
    "faint": lambda a: ops.multiply(a, const(0.4)),
    "a veil": lambda a: ops.add(ops.multiply(a, const(0.7)), const(0.3)),
    "moved": lambda a: ops.concat(
        [
            ops.slice(a, *(const([x], np.int64) for x in (-96, 9999, 1, 3))),
            ops.slice(a, *(const([x], np.int64) for x in (0, -96, 1, 3))),
        ],
        3,
    ),
}


def spoiled(path: Path, spoil: Callable[[ov.Output], ov.Node]) -> Path:
    """Write our own small network with its answer spoiled."""
    model = ov.Core().read_model(SMALL)
    answer = model.get_results()[0].input_value(0)
    made = spoil(answer).output(0)
    made.set_names({"alpha"})
    wrong = ov.Model([made], model.get_parameters(), "wrong")
    ov.save_model(wrong, path, compress_to_fp16=False)
    return path


def reweighed(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """Write our own small network with other weights."""
    model = ov.Core().read_model(SMALL)
    for op in model.get_ops():
        if op.get_type_name() == "Constant" and op.output(0).get_element_type() == ov.Type.f16:
            data = op.data.astype(np.float32)
            if data.ndim == 4:
                fresh = ops.constant(change(data).astype(np.float16))
                op.output(0).replace(fresh.output(0))
    ov.save_model(model, path, compress_to_fp16=False)
    return path


@pytest.mark.parametrize("name", SPOILS)
def test_a_network_that_is_wrong_is_refused_by_name_when_it_is_opened(tmp_path, name):
    path = spoiled(tmp_path / "foreign.xml", SPOILS[name])

    with pytest.raises(
        UntrustedError, match=r"the model foreign \(.*whose answer is known"
    ) as told:
        Segmenter(str(path))

    assert "model" in told.value.hint


def test_random_weights_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    path = reweighed(tmp_path / "random.xml", lambda w: rng.normal(0, max(w.std(), 1e-3), w.shape))

    with pytest.raises(UntrustedError):
        Segmenter(str(path))


@pytest.mark.parametrize("gain", [12.0, -12.0, 2.0])
@pytest.mark.parametrize("middle", [-1.0, -0.3, 0.0, 0.5, 1.0])
def test_brightness_is_no_person(tmp_path, gain, middle):
    path = tiny_models.bright_is_person(tmp_path / "bright.xml", gain=gain, middle=middle)

    with pytest.raises(UntrustedError):
        Segmenter(str(path))


def test_swapped_classes_are_refused_and_the_sentence_says_so(tmp_path):
    model = ov.Core().read_model(WEIGHTS / "bisenet-r18-int8.xml")  # a picture in, no room
    answer = model.get_results()[0].input_value(0)
    both = ops.concat([answer, ops.subtract(const(1.0), answer)], 1)
    both.output(0).set_names({"alpha"})
    wrong = ov.Model([both.output(0)], model.get_parameters(), "swapped")
    ov.save_model(wrong, tmp_path / "swapped.xml", compress_to_fp16=False)

    with pytest.raises(UntrustedError, match="swapped"):
        Segmenter(str(tmp_path / "swapped.xml"))


class Late:
    """Our own network, whose answer belongs to the picture before."""

    def __init__(self, behind: int = 1):
        self._engine = OpenVinoEngine(SMALL)
        self.layout, self.model, self.precision = self._engine.layout, "late", "fp32"
        self._behind = behind
        self._answers: list[np.ndarray] = []

    def infer(self, x):
        self._answers.append(self._engine.infer(x).copy())
        return self._answers[max(0, len(self._answers) - 1 - self._behind)]

    def reset(self):
        pass


@pytest.mark.parametrize("behind", [1, 9], ids=["one behind", "stands still"])
def test_an_answer_to_the_picture_before_is_refused(behind):
    with pytest.raises(UntrustedError, match="late"):
        answers.examine(Late(behind), 224, 384)


def test_a_graph_of_another_shape_is_asked_too(tmp_path):
    """Right at the size it is opened at, wrong at another: nobody sees the second."""
    engine = OpenVinoEngine(SMALL)
    engine.prepare(224, 384)
    compiled = engine._compile
    wrong = OpenVinoEngine(spoiled(tmp_path / "wrong.xml", SPOILS["inverted"]), examine=False)
    wrong.prepare(160, 288)
    engine._compile = lambda *_: wrong._made[1, 7, 160, 288]

    with pytest.raises(UntrustedError):
        engine.infer(np.zeros((1, 7, 160, 288), np.float32))
    engine._compile = compiled

    assert engine.infer(np.zeros((1, 7, 160, 288), np.float32)).max() < 0.5
    assert engine.infer(np.zeros((1, 7, 224, 384), np.float32)).max() < 0.5


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["bisenet-small", "bisenet-small-int8", "bisenet-r18-int8"])
def test_ours_pass_at_every_size_of_a_camera(name, size):
    engine = OpenVinoEngine(WEIGHTS / f"{name}.xml")

    engine.prepare(*size)

    engine.close()


@pytest.mark.skipif(not PEERS.is_dir(), reason="the networks of others are not here")
@pytest.mark.parametrize(
    "name",
    [
        "mediapipe_meet_144x256.onnx",
        "mediapipe_selfie_general_256x256.onnx",
        "sinet_320x320.onnx",
        "pphumanseg_192x192.onnx",
    ],
)
def test_networks_of_others_that_find_people_pass(name):
    segmenter = Segmenter(str(PEERS / name))

    assert segmenter.info["notes"] == []
    segmenter.close()


def _weights(folder: Path, *wrong: str) -> Path:
    """Copy what is shipped; the networks in `wrong` show the room."""
    folder.mkdir()
    for path in WEIGHTS.iterdir():
        if path.suffix in (".xml", ".bin"):
            shutil.copy(path, folder)
    for name in wrong:
        spoiled(folder / f"{name}.xml", SPOILS["inverted"])
    return folder


def test_a_precision_that_is_wrong_here_is_left_out_and_told_at_every_start(tmp_path, monkeypatch):
    folder = _weights(tmp_path / "weights", "bisenet-small-int8")
    monkeypatch.setattr(choice, "weights_dir", lambda: folder)

    for _ in range(2):
        segmenter = Segmenter(machine=Machine(cache_dir=tmp_path / "cache"))
        info = segmenter.info
        segmenter.close()

        assert info["model"] == "bisenet-small"
        assert len(info["notes"]) == 1
        assert "bisenet-small-int8" in info["notes"][0]
        assert "shows the room and hides the person" in info["notes"][0]


def test_a_precision_that_went_wrong_since_is_measured_again(tmp_path, monkeypatch):
    folder = _weights(tmp_path / "weights")
    monkeypatch.setattr(choice, "weights_dir", lambda: folder)
    monkeypatch.setattr(choice, "_fingerprint", lambda *_: "the same")
    Segmenter(machine=Machine(cache_dir=tmp_path / "cache")).close()
    for name in ("bisenet-small", "bisenet-small-int8"):
        spoiled(folder / f"{name}.xml", SPOILS["nobody"])

    segmenter = Segmenter(machine=Machine(cache_dir=tmp_path / "cache"))

    assert segmenter.info["model"] == "bisenet-r18-int8"
    assert any("does not find the person" in note for note in segmenter.info["notes"])
    segmenter.close()


def test_the_large_network_that_is_wrong_makes_place_for_the_small_one(tmp_path, monkeypatch):
    folder = _weights(tmp_path / "weights", "bisenet-r18-int8")
    monkeypatch.setattr(choice, "weights_dir", lambda: folder)

    for options in ({"quality": "high"}, {"still": True}):
        segmenter = Segmenter(**options)

        assert "r18" not in segmenter.info["model"]
        assert "bisenet-r18-int8" in segmenter.info["notes"][0]
        segmenter.close()


def test_nothing_is_opened_when_all_of_ours_are_wrong(tmp_path, monkeypatch):
    names = ("bisenet-small", "bisenet-small-int8", "bisenet-r18-int8")
    folder = _weights(tmp_path / "weights", *names)
    monkeypatch.setattr(choice, "weights_dir", lambda: folder)

    for options in ({}, {"quality": "high"}, {"still": True}):
        with pytest.raises(UntrustedError, match="is not used") as told:
            Segmenter(**options)
        assert told.value.hint == "Install the program again."


def test_nothing_is_opened_without_the_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "FOLDER", tmp_path)
    answers._read.cache_clear()

    with pytest.raises(EngineError, match="missing or damaged"):
        Segmenter()

    answers._read.cache_clear()


def test_the_pictures_are_small_and_in_the_package():
    assert sum(path.stat().st_size for path in answers.FOLDER.iterdir()) < 40_000
