"""Views of a room that is known: what is told of it is true but for what time does to it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install -e .[train]")

from segmentation.bisenet import BiSeNet  # noqa: E402
from segmentation.constants import ROOM_SCALE  # noqa: E402
from segmentation.engines.openvino import OpenVinoEngine  # noqa: E402
from segmentation.engines.weights_file import fold, save_weights  # noqa: E402
from tests.train.people import person, write_folder  # noqa: E402
from train.__main__ import main  # noqa: E402
from train.engine import predict, to_device  # noqa: E402
from train.fit import fit  # noqa: E402
from train.place import Place  # noqa: E402
from train.recipe import Data, Fit, Network, Recipe  # noqa: E402
from train.views import known_room  # noqa: E402
from train.views.draw import Augment  # noqa: E402
from train.views.render import view  # noqa: E402
from train.weights import export as exporting  # noqa: E402
from train.weights.checkpoint import load_mean, load_network  # noqa: E402

SIZE = (96, 128)
ROOMS = [
    cv2.resize(np.random.default_rng(i).integers(0, 255, (9, 12, 3), np.uint8), (160, 120))
    for i in range(3)
]
PLAIN = {f.name: 0.0 for f in dataclasses.fields(Augment)} | {"zoom": 1.5, "head": 0.85}


def views(count: int = 60, **changes: float) -> list[tuple[np.ndarray, np.ndarray]]:
    image, matte = person(0)
    options = Augment(**PLAIN | {"known": 1.0} | changes)
    return [
        view(image, matte, ROOMS, SIZE, np.random.default_rng(seed), options)
        for seed in range(count)
    ]


@pytest.fixture
def calm(monkeypatch):
    """Time does nothing to the room, and all that is known is told."""
    monkeypatch.setattr(known_room, "told", lambda seen, alpha, behind: behind.known)
    for name in ("SHADE", "UNEVEN", "CHANGED", "GHOST", "FOREIGN", "ALIKE", "GAPS", "SHIFT"):
        monkeypatch.setattr(known_room, name, 0.0)


def test_a_known_room_is_the_picture_where_nobody_is(calm):
    whole = 0
    for seen, alpha in views(composite=1.0, colour=1.0):
        known, there = seen[..., 6] > 0, alpha < 0.02
        apart = np.abs(seen[..., :3].astype(float) - seen[..., 3:6]).mean(axis=2)
        assert apart[known & there].mean() < 12, "light and lens are the same"
        assert set(np.unique(seen[..., 6])) <= {0, 255}
        whole += known.all()
        if known.all():
            assert apart[alpha > 0.98].mean() > 3 * apart[there].mean()
        else:
            assert not known[alpha > 0.5].any(), "nobody can have seen what is behind"

    assert 15 < whole < 45


def test_of_a_plain_part_that_looks_as_before_nothing_is_told():
    rng = np.random.default_rng(0)
    room = np.full((64, 96, 3), 120, np.uint8)
    room[:32] = rng.integers(60, 200, (32, 96, 3))  # a textured half
    seen, alpha = room.copy(), np.zeros((64, 96), np.float32)
    seen[48:, 40:60] = 200  # somebody before the plain half
    alpha[48:, 40:60] = 1
    known = np.full((64, 96), 255, np.uint8)
    known[:, 80:] = 0

    told = known_room.told(seen, alpha, known_room.Behind(room, known))

    assert told[:32, :80].all()
    assert told[50:, 42:58].min() == 255
    assert not told[36:46].any()
    assert not told[50:, :36].any()
    assert not told[:, 80:].any()


def test_where_a_photograph_was_taken_the_room_is_known_around_the_person_alone(calm):
    for seen, alpha in views():
        known = seen[..., 6] > 0
        assert known.any()
        assert not known[alpha > 0.05].any()


def test_an_empty_room_is_known_and_the_person_is_not_in_it(calm):
    for seen, alpha in views(empty=1.0):
        assert not alpha.any()
        apart = np.abs(seen[..., :3].astype(float) - seen[..., 3:6]).mean(axis=2)
        assert apart[seen[..., 6] > 0].mean() < 10


def test_as_often_as_told_nothing_is_known_and_then_nothing_is_told():
    found = [seen for seen, _ in views(200, known=0.3, plain=0.5, composite=0.6)]
    known = [bool(seen[..., 3:6].any()) for seen in found]

    assert 0.15 < np.mean(known) < 0.45
    for seen, there in zip(found, known, strict=True):
        assert there or not seen[..., 6].any()


def test_time_changes_the_room_and_never_the_matte():
    """Each thing that may happen shows in the picture or the room; alpha is that of a calm view."""
    rng = np.random.default_rng(0)
    alpha = np.zeros(SIZE, np.float32)
    cv2.circle(alpha, (64, 60), 28, 1.0, -1)
    room = np.asarray(cv2.resize(ROOMS[0], SIZE[::-1]))
    seen = np.where(alpha[..., None] > 0, np.uint8(200), room)
    changes = 0
    for _ in range(60):
        now, behind = known_room.scene(seen, alpha, room, ROOMS[1][: SIZE[0], : SIZE[1]], rng)
        changes += not np.array_equal(now, seen) or not np.array_equal(behind.image, room)

    assert changes > 40


def test_the_network_is_told_half_of_the_difference_where_it_is_known():
    seen = np.zeros((1, 4, 4, 7), np.uint8)
    seen[..., :3], seen[..., 3:6] = 100, 151
    seen[:, :, :2, 6] = 255

    x, _ = to_device((seen, np.zeros((1, 4, 4), np.float32)), torch.device("cpu"))

    assert x.shape == (1, 7, 4, 4)
    assert not x[:, 3:, :, 2:].any()
    told = ROOM_SCALE * 51 / 255 / np.array([0.229, 0.224, 0.225])
    assert np.allclose(x[0, 3:6, 0, 0], told, atol=1e-5)
    assert x[0, 6, :, :2].min() == 1


def test_a_network_learns_with_the_room_and_comes_back_from_disk(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(exporting, "INT8_LOSS", 100.0)  # it has learnt for four steps
    data = tmp_path / "data"
    write_folder(data / "train", 8)
    write_folder(data / "val", 2, seed=50)
    (data / "rooms").mkdir()
    for i, room in enumerate(ROOMS):
        cv2.imwrite(str(data / "rooms" / f"{i}.png"), room)
    torch.manual_seed(0)
    save_weights(fold(BiSeNet(0.05)), data / "before.safetensors")
    recipe = Recipe(
        name="tiny",
        network=Network(width=0.05, room=True, start="before.safetensors"),
        data=Data(train=("train",), validation=("val",), rooms="rooms"),
        fit=Fit(epochs=1, views=16, batch=4, side=64, warmup=2, validate=1, sheet=2, amp="off",
                mine=1),
        augment=Augment(known=0.7, plain=0.3, empty=0.2, seat=0.5),
    )  # fmt: skip

    fit(recipe, data, tmp_path / "run", Place(workers=0))

    network = load_network(tmp_path / "run" / "last.pt")
    assert network.room
    assert network.context.conv1.weight[:, 3:].abs().max() > 0
    assert predict(network, ROOMS[0], 64).shape == ROOMS[0].shape[:2]

    stem = tmp_path / "net"
    code = main(
        ["export", str(tmp_path / "run" / "last.pt"), "-o", str(stem),
         "--calibrate", str(data / "train"), "--even"]
    )  # fmt: skip
    assert code == 0
    for path in (stem.with_suffix(".xml"), tmp_path / "net-int8.xml"):
        engine = OpenVinoEngine(path, examine=False)
        assert engine.layout.room
        x = np.random.default_rng(1).normal(0, 1, (1, 7, 64, 96)).astype(np.float32)
        answer = engine.infer(x).copy()
        x[0, 3:] = 0
        assert np.abs(engine.infer(x) - answer).max() > 1e-4, "what it is told counts"
        engine.close()


def test_a_mean_with_weights_that_know_no_room_keeps_what_the_others_learnt_of_it(tmp_path: Path):
    torch.manual_seed(0)
    with_it, without = fold(BiSeNet(0.05, room=True)), fold(BiSeNet(0.05))
    save_weights(with_it, tmp_path / "with.safetensors")
    save_weights(without, tmp_path / "without.safetensors")

    mean = load_mean([tmp_path / "without.safetensors", tmp_path / "with.safetensors"])

    assert mean.room
    stem = mean.context.conv1.weight
    torch.testing.assert_close(stem[:, 3:], with_it.context.conv1.weight[:, 3:], atol=1e-3, rtol=0)
    both = (with_it.context.conv1.weight[:, :3] + without.context.conv1.weight) / 2
    torch.testing.assert_close(stem[:, :3], both, atol=1e-3, rtol=0)
