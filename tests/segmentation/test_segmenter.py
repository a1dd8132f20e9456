"""Frames of every shape, through a real engine and a tiny real model, to mattes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from segmentation.engines.layout import Layout
from segmentation.engines.openvino import OpenVinoEngine
from segmentation.errors import EngineError, ModelError, SegmentationError
from segmentation.matte import Matte
from segmentation.planes import Planes, Shrink
from segmentation.segmenter import Machine, Segmenter
from segmentation.sizes import AREAS, input_size
from tests.segmentation import tiny_models

Opened = Callable[..., Segmenter]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Opens segmenters on the tiny model and closes them."""
    model = tiny_models.bright_is_person(tmp_path / "tiny.xml")
    segmenters = []

    def open_one(path: Path = model, **options: object) -> Segmenter:
        segmenters.append(Segmenter(str(path), examine=False, **options))
        return segmenters[-1]

    yield open_one
    for segmenter in segmenters:
        segmenter.close()


def disc(height: int, width: int, *, rows: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A bright disc in a dark room, as read-only planes."""
    y = np.full((height, width), 30, np.uint8)
    cv2.circle(y, (width // 2, height // 2), min(height, width) // 4, 220, -1)
    u, v = (np.full((height // rows, width // 2), 128, np.uint8) for _ in "uv")
    for plane in (y, u, v):
        plane.setflags(write=False)
    return y, u, v


def matte_of(
    segmenter: Segmenter, planes: tuple[np.ndarray, ...], seq: int = 0, fps: int = 30
) -> Matte:
    return segmenter.matte(Planes(*planes), seq=seq, pts=seq / fps)


@pytest.mark.parametrize(
    ("height", "width"),
    [(720, 1280), (480, 640), (1280, 720), (512, 512), (270, 480), (100, 900), (2160, 3840)],
)
def test_a_disc_stays_a_disc_in_every_shape_of_frame(opened, height, width):
    matte = matte_of(opened(), disc(height, width))

    solid = matte.alpha > 0.5
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    tall = (rows[-1] - rows[0] + 1) * height / solid.shape[0]
    wide = (columns[-1] - columns[0] + 1) * width / solid.shape[1]
    pixel = max(height / solid.shape[0], width / solid.shape[1])
    assert tall == pytest.approx(wide, abs=2.5 * pixel)
    assert tall == pytest.approx(min(height, width) / 2, abs=2.5 * pixel)


def test_chroma_of_both_layouts_gives_the_same_matte(opened):
    first = matte_of(opened(), disc(360, 640, rows=1)).alpha
    second = matte_of(opened(), disc(360, 640, rows=2)).alpha

    assert np.array_equal(first, second)


def test_full_range_is_told_from_limited_range(tmp_path):
    dark = tiny_models.bright_is_person(tmp_path / "dark.xml", middle=-1.2)  # decides far from grey
    y = np.full((90, 160), 128, np.uint8)
    y[:, :80] = np.linspace(16, 235, 80).astype(np.uint8)
    full = np.asarray(np.clip((y - 16.0) * 255 / 219, 0, 255) + 0.5, np.uint8)
    chroma = np.full((45, 80), 128, np.uint8)
    seen = []
    for luma, full_range in ((y, False), (full, True), (y, True)):
        segmenter = Segmenter(str(dark), examine=False)
        matte = segmenter.matte(Planes(luma, chroma, chroma, full_range), seq=0, pts=0.0)
        seen.append(matte.raw.copy())
        segmenter.close()

    # Rounding differs by a level of limited luma, 255 / 219: 0.06 where this model is steepest.
    assert np.abs(seen[0] - seen[1]).max() < 0.065
    assert np.abs(seen[0] - seen[2]).max() > 0.3


def test_the_matte_says_which_frame_it_belongs_to(opened):
    segmenter = opened()

    mattes = [matte_of(segmenter, disc(90, 160), seq=seq) for seq in (4, 9)]

    assert [matte.seq for matte in mattes] == [4, 9]
    assert mattes[0].alpha is not mattes[1].alpha


def test_the_camera_may_change_its_size_between_two_frames(opened):
    segmenter = opened()

    first = matte_of(segmenter, disc(480, 640))
    second = matte_of(segmenter, disc(720, 1280), seq=1)

    assert first.alpha.shape != second.alpha.shape
    assert second.present


def test_padded_rows_are_not_looked_at(opened):
    y, u, v = disc(90, 160)
    padded = np.full((90, 192), 255, np.uint8)
    padded[:, :160] = y

    plain = matte_of(opened(), (y, u, v)).alpha.copy()
    strided = matte_of(opened(), (padded[:, :160], u, v)).alpha

    assert np.array_equal(plain, strided)


def test_a_dark_room_without_anybody_gives_an_empty_matte(opened):
    y, u, v = disc(360, 640)
    dark = np.full_like(y, 30)
    dark[100:110, 100:112] = 220  # a lamp, not a person

    matte = matte_of(opened(), (dark, u, v))

    assert not matte.present
    assert matte.alpha.max() == 0
    assert matte.raw.max() > 0.9


def test_a_still_is_looked_at_mirrored_too(tmp_path, opened):
    leaning = tiny_models.mirror_and_shift(tmp_path / "leaning.xml")
    planes = disc(256, 256)

    def lean(matte):
        sure = matte.raw > 0.9
        return float((sure * np.arange(sure.shape[1])).sum() / sure.sum())

    live = matte_of(opened(leaning, smoothing=0.0), planes)
    still = matte_of(opened(leaning, still=True), planes)

    middle = (live.raw.shape[1] - 1) / 2
    assert abs(lean(live) - middle) > 1.9
    assert abs(lean(still) - middle) < 0.6


def test_stills_do_not_remember_each_other(opened):
    segmenter = opened(still=True)
    alone = matte_of(opened(still=True), disc(256, 256)).alpha.copy()
    y, u, v = disc(256, 256)

    matte_of(segmenter, (np.roll(y, 40, axis=1), u, v))
    second = matte_of(segmenter, (y, u, v), seq=1).alpha

    assert np.array_equal(alone, second)


def test_reset_forgets_the_frames_before(opened):
    segmenter = opened(smoothing=1.0)
    y, u, v = disc(180, 320)
    fresh = matte_of(opened(smoothing=1.0), (y, u, v)).alpha.copy()
    matte_of(segmenter, (np.roll(y, 1, axis=1), u, v))

    segmenter.reset()

    assert np.array_equal(matte_of(segmenter, (y, u, v), seq=1).alpha, fresh)


def test_a_second_frame_is_smoothed_with_the_first(opened):
    y, u, v = disc(180, 320)
    first, second = y.copy(), y.copy()
    first[60:120, 20:100], second[60:120, 20:100] = 118, 120  # an arm, nearly undecided
    segmenter = opened(smoothing=0.8)

    matte_of(segmenter, (first, u, v))
    smoothed = matte_of(segmenter, (second, u, v), seq=1).alpha

    alone = matte_of(opened(smoothing=0.0), (second, u, v), seq=1).alpha
    assert np.abs(smoothed - alone).max() > 0.01


@pytest.mark.parametrize("quality", list(AREAS))
def test_better_quality_looks_at_more_pixels_of_the_same_shape(quality):
    (full_h, full_w), (h, w) = input_size(720, 1280, AREAS[quality])

    assert full_h % 32 == 0
    assert full_w % 32 == 0
    assert w / h == pytest.approx(16 / 9, rel=0.02)
    assert full_h * full_w <= 1.12 * AREAS[quality]
    assert h * w > 0.9 * full_h * full_w


@pytest.mark.parametrize("shape", [(224, 384), (256, 352), (384, 224), (288, 288)])
def test_common_cameras_get_the_sizes_the_model_was_made_for(shape):
    cameras = {(224, 384): (720, 1280), (256, 352): (480, 640), (384, 224): (1280, 720)}

    full, _ = input_size(*cameras.get(shape, (512, 512)), AREAS["balanced"])

    assert full == shape


@pytest.mark.parametrize("shape", [(720, 1280), (1080, 1920), (360, 640), (270, 480), (101, 333)])
def test_shrinking_keeps_the_mean_and_the_place(shape):
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    plane = np.asarray(255 * x / shape[1] * 0.5 + 127 * y / shape[0], np.uint8)
    out = np.zeros((72, 128), np.uint8)

    Shrink(shape, out.shape)(plane, out)

    reference = cv2.resize(plane, (128, 72), interpolation=cv2.INTER_AREA)
    assert np.abs(out.astype(int) - reference).max() <= 3


def test_a_missing_model_is_named_with_a_hint(tmp_path):
    with pytest.raises(ModelError, match=r"nothing\.xml' does not exist") as caught:
        Segmenter(str(tmp_path / "nothing.xml"))

    assert "model" in caught.value.hint


def test_truncated_weights_are_told(tmp_path):
    path = tiny_models.bright_is_person(tmp_path / "tiny.xml")
    path.with_suffix(".bin").write_bytes(b"")

    with pytest.raises(ModelError, match="damaged"):
        Segmenter(str(path))


def test_missing_weights_beside_the_model_are_told(tmp_path):
    path = tiny_models.bright_is_person(tmp_path / "tiny.xml")
    path.with_suffix(".bin").unlink()

    with pytest.raises(ModelError, match=r"lacks its weights .*tiny\.bin"):
        Segmenter(str(path))


def test_a_picture_is_no_model(tmp_path):
    path = tmp_path / "cat.onnx"
    path.write_bytes(b"\x89PNG\r\n" * 50)

    with pytest.raises(ModelError, match="damaged or not a model"):
        Segmenter(str(path))


@pytest.mark.parametrize(
    "shape", [(1, 1, 64, 64), (4, 3, 64, 64), (1, 64, 64, 1), (1, 3, 64)], ids=str
)
def test_a_model_of_something_else_is_refused_with_what_was_expected(tmp_path, shape):
    import openvino as ov
    import openvino.opset13 as ops

    x = ops.parameter(ov.PartialShape(shape), np.float32, name="x")
    ov.save_model(ov.Model([ops.relu(x)], [x], "other"), tmp_path / "other.xml")

    with pytest.raises(ModelError, match=r"not a person model.*expected one picture"):
        Segmenter(str(tmp_path / "other.xml"))


@pytest.mark.parametrize(
    ("options", "layout"),
    [
        ({}, ("bisenet", None, 0)),
        ({"shape": (1, 144, 256, 3), "middle": 0.5}, ("mediapipe", (144, 256), 0)),
        (
            {"shape": (1, 144, 256, 3), "middle": 0.5, "channels_out": 2},
            ("mediapipe", (144, 256), 1),
        ),
        (
            {"shape": (1, 144, 256, 3), "middle": 0.5, "channels_out": 2, "logits": True},
            ("mediapipe", (144, 256), 1),
        ),
        (
            {"shape": (1, 3, 320, 320), "channels_out": 2, "input_name": "data"},
            ("sinet", (320,) * 2, 1),
        ),
        ({"channels_out": 2}, ("pphumanseg", (192, 192), 1)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_other_peoples_models_are_recognised_and_used(tmp_path, opened, options, layout):
    path = tiny_models.bright_is_person(tmp_path / "theirs.xml", **options)

    segmenter = opened(path)
    matte = matte_of(segmenter, disc(360, 640))

    found = segmenter._engine.layout
    assert (found.name, found.size, found.channel) == layout
    h, w = matte.alpha.shape
    assert w / h == pytest.approx(16 / 9, rel=0.02)
    if found.name != "sinet":  # its inputs are so small that the tiny model never decides
        assert matte.alpha[h // 2, w // 2] > 0.9
        assert matte.alpha[2, 2] < 0.1


def test_a_recurrent_model_remembers_until_it_is_reset(tmp_path, opened):
    segmenter = opened(tiny_models.recurrent(tmp_path / "rvm.xml"), smoothing=0.0)
    planes = disc(160, 288)

    seen = [float(matte_of(segmenter, planes, seq=i).raw.mean()) for i in range(3)]
    segmenter.reset()
    again = float(matte_of(segmenter, planes, seq=3).raw.mean())

    assert seen == pytest.approx([0.0, 0.1, 0.2], abs=1e-3)
    assert again == pytest.approx(0.0, abs=1e-3)


def test_a_quality_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(SegmentationError, match=r"quality is 'best', expected one of 'auto'"):
        Segmenter(str(tmp_path / "x.xml"), quality="best")


def test_an_engine_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(EngineError, match=r"engine is 'tpu', expected one of"):
        Segmenter(str(tmp_path / "x.xml"), Machine("tpu"))


def test_the_room_is_learnt_and_forgotten_by_word_and_wiped_with_the_rest(opened):
    segmenter, planes = opened(), disc(360, 640)
    segmenter.tell_room("learn")
    for seq in range(60):  # a look every third frame, and somebody there in all of them
        matte_of(segmenter, planes, seq)
    assert segmenter.info["room"]["known"] == 1
    assert segmenter.room_map.min() == 255

    seq = next(seq for seq in range(60, 80) if matte_of(segmenter, planes, seq).looked)
    segmenter.tell_room("forget")
    matte_of(segmenter, planes, seq + 1)
    assert segmenter.info["room"]["known"] == 0
    assert segmenter.info["room"]["forgotten"] == "by your word"

    segmenter.tell_room("learn")
    for seq in range(80, 140):
        matte_of(segmenter, planes, seq)
    segmenter.wipe()
    assert segmenter.info["room"]["known"] == 0
    assert not segmenter.room_map.any()


def test_a_word_to_learn_that_was_said_long_before_the_next_look_is_void(opened, monkeypatch):
    monkeypatch.setattr("segmentation.motion.words.STALE", 0.0)
    segmenter = opened()
    segmenter.tell_room("learn")  # in a pause: by the next look somebody may be back
    for seq in range(60):
        matte_of(segmenter, disc(360, 640), seq)

    assert segmenter.info["room"]["known"] < 1


def test_a_still_learns_no_room(opened):
    segmenter = opened(still=True)
    segmenter.tell_room("learn")
    for seq in range(60):
        matte_of(segmenter, disc(360, 640), seq)

    assert segmenter.info["room"]["known"] == 0


def test_info_names_what_runs(opened):
    segmenter = opened()
    matte_of(segmenter, disc(720, 1280))

    info = segmenter.info

    assert (info["engine"], info["device"], info["model"]) == ("openvino", "CPU", "tiny")
    assert info["size"] == [384, 224]
    assert set(info["stages_ms"]) == {"prepare", "infer", "smooth", "refine"}


def test_the_engine_uses_its_input_again_without_copying_it(tmp_path):
    engine = OpenVinoEngine(tiny_models.bright_is_person(tmp_path / "tiny.xml"), examine=False)
    x = np.full((1, 3, 64, 64), -1, np.float32)

    dark = engine.infer(x).copy()
    x[:] = 1
    bright = engine.infer(x)

    assert isinstance(engine.layout, Layout)
    assert dark.max() < 0.01
    assert bright.min() > 0.99
    engine.close()


def test_the_network_looks_at_every_third_frame_while_mattes_can_be_carried(opened, monkeypatch):
    segmenter = opened(quality="auto", smoothing=0.0)
    monkeypatch.setattr(segmenter._governor, "step", 0)
    segmenter.level = segmenter._governor.level
    looked = []
    infer = segmenter._engine.infer
    monkeypatch.setattr(segmenter._engine, "infer", lambda x: looked.append(1) or infer(x))
    y, u, v = disc(360, 640)
    texture = np.random.default_rng(1).integers(0, 12, y.shape).astype(np.uint8)
    y = np.asarray(y + cv2.blur(texture, (9, 9)), np.uint8)

    told = []
    for seq in range(9):
        moved = np.roll(y, 2 * seq, axis=1)
        matte = matte_of(segmenter, (moved, u, v), seq=seq)
        told.append(matte.looked)

        truth = cv2.resize((moved > 120).astype(np.float32), matte.raw.shape[::-1])
        assert ((matte.raw > 0.5) != (truth > 0.5)).mean() < 0.01

    assert told == [True] * 3 + [False, False, True] * 2  # not before three looks agreed
    assert len(looked) == sum(told)


@pytest.mark.parametrize(("fps", "frames"), [(30, 6), (15, 4), (10, 3)])
def test_somebody_who_sits_still_is_looked_at_half_as_often_but_four_times_a_second(
    opened, fps, frames
):
    segmenter, planes = opened(smoothing=0.0), disc(360, 640)

    told = [matte_of(segmenter, planes, seq, fps=fps).looked for seq in range(6 + 2 * frames)]

    # Three looks at once, and one as with anybody, which is the third that only confirms.
    sure = [True] * 3 + [False] * 2 + [True]
    assert told == sure + ([False] * (frames - 1) + [True]) * 2


def test_who_may_stay_is_asked_at_once_and_not_when_a_look_is_due(opened):
    segmenter, planes = opened(smoothing=0.0), disc(360, 640)
    looked = [matte_of(segmenter, planes, seq).looked for seq in range(4)]
    segmenter.adjust(smoothing=0.0, people="only-me")

    assert not looked[3]
    assert matte_of(segmenter, planes, 4).looked


def test_a_scene_that_changes_altogether_is_never_carried_over(opened, monkeypatch):
    segmenter = opened(quality="auto", smoothing=0.0)
    y, u, v = disc(360, 640)
    carried = [not matte_of(segmenter, (y, u, v), seq=seq).looked for seq in range(4)]

    matte = matte_of(segmenter, (np.full_like(y, 30), u, v), seq=4)

    assert carried[3]  # as the next would be, but for the scene
    assert matte.raw.max() < 0.5


def test_the_choice_of_precision_is_measured_once_and_remembered(tmp_path, monkeypatch):
    from segmentation.engines import choice as module

    weights, cache = tmp_path / "weights", tmp_path / "cache"
    weights.mkdir()
    tiny_models.bright_is_person(weights / "bisenet-small.xml")
    tiny_models.bright_is_person(weights / "bisenet-small-int8.xml")
    monkeypatch.setattr(module, "weights_dir", lambda: weights)
    measured = []
    real = module._best_of
    monkeypatch.setattr(module, "_best_of", lambda e, x: measured.append(e) or real(e, x))

    module.open_openvino(examine=False, cache_dir=cache).close()
    first = len(measured)
    module.open_openvino(examine=False, cache_dir=cache).close()

    assert first >= 2
    assert len(measured) == first
    assert (cache / "precision.json").exists()


def test_weights_that_disagree_with_the_exact_ones_are_never_chosen(tmp_path, monkeypatch):
    from segmentation.engines import choice as module

    tiny_models.bright_is_person(tmp_path / "bisenet-small.xml")
    tiny_models.bright_is_person(tmp_path / "bisenet-small-int8.xml", gain=-12.0)
    monkeypatch.setattr(module, "weights_dir", lambda: tmp_path)
    monkeypatch.setattr(module, "_best_of", lambda e, x: 0.1 if e.model.endswith("int8") else 1.0)

    engine = module.open_openvino(examine=False)

    assert engine.model == "bisenet-small"
    engine.close()


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    from segmentation.engines import choice as module

    tiny_models.bright_is_person(tmp_path / "bisenet-small.xml")
    monkeypatch.setattr(module, "weights_dir", lambda: tmp_path)
    (tmp_path / "file").write_text("")

    engine = module.open_openvino(examine=False, cache_dir=tmp_path / "file" / "cache")

    assert engine.device == "CPU"
    engine.close()


def test_a_damaged_memory_of_the_choice_is_measured_again(tmp_path, monkeypatch):
    from segmentation.engines import choice as module

    tiny_models.bright_is_person(tmp_path / "bisenet-small.xml")
    monkeypatch.setattr(module, "weights_dir", lambda: tmp_path)
    (tmp_path / "precision.json").write_text("[1, 2")

    module.open_openvino(examine=False, cache_dir=tmp_path).close()

    assert '"precision"' in (tmp_path / "precision.json").read_text()


def test_the_shipped_model_that_is_missing_is_told(tmp_path, monkeypatch):
    from segmentation.engines import choice as module

    monkeypatch.setattr(module, "weights_dir", lambda: tmp_path)

    with pytest.raises(ModelError, match=r"bisenet-small\.xml is missing") as caught:
        Segmenter()

    assert "Install" in caught.value.hint


def test_high_quality_takes_the_large_model_where_the_processor_can(tmp_path, monkeypatch):
    from segmentation.engines import choice as module

    tiny_models.bright_is_person(tmp_path / "bisenet-small.xml")
    tiny_models.bright_is_person(tmp_path / "bisenet-r18-int8.xml")
    monkeypatch.setattr(module, "weights_dir", lambda: tmp_path)

    for affordable, model in ((1.0, "bisenet-r18-int8"), (0.0, "bisenet-small")):
        monkeypatch.setattr(module, "AFFORDABLE", affordable)
        high = Segmenter(quality="high", examine=False)
        assert high.info["model"] == model
        high.close()


@pytest.mark.parametrize("inputs", [3, 7])
def test_stills_get_the_mean_of_both_models_where_both_are_shipped(tmp_path, monkeypatch, inputs):
    from segmentation.engines import choice as module

    tiny_models.bright_is_person(tmp_path / "bisenet-small.xml", shape=(1, inputs, -1, -1))
    tiny_models.bright_is_person(tmp_path / "bisenet-r18-int8.xml")
    monkeypatch.setattr(module, "weights_dir", lambda: tmp_path)
    y, c = np.full((64, 96), 40, np.uint8), np.full((32, 48), 128, np.uint8)
    y[:, 48:] = 220

    still, live = Segmenter(still=True, examine=False), Segmenter(examine=False)
    mattes = [s.matte(Planes(y, c, c), seq=0, pts=0.0).raw.copy() for s in (still, live)]

    assert still.info["model"] == "bisenet-small + bisenet-r18-int8"
    assert live.info["model"] == "bisenet-small"
    assert all(m[:, -8:].mean() > 0.5 > m[:, :8].mean() for m in mattes)
    still.close()
    live.close()
