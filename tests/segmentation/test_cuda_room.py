# ruff: noqa: E402
"""The learned room on the GPU, on the processor: the same code with another device."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install -e .[cuda]")
pytest.importorskip("safetensors", reason="needs the extra: pip install -e .[cuda]")

from segmentation.engines.layout import weights_dir
from segmentation.motion.room import FRAMES, PROVEN, Room
from segmentation.motion.words import Words
from segmentation.planes import Planes
from segmentation.sizes import AREAS
from tests.segmentation.test_cuda import backdrop, matte
from tests.segmentation.test_room import MATRIX, SCALE, before, disc, wall
from vcam.compose.scene import Look, Scene
from vcam.frame import Frame
from vcam.gpu.room import learner as learner_module
from vcam.gpu.room.compared import Compared
from vcam.gpu.room.learner import Learner
from vcam.gpu.segmenter import CudaSegmenter, Form

W, H = 192, 108


@pytest.fixture(autouse=True)
def every_frame(monkeypatch):
    """Frames here come fifteen times a second, and each is looked at."""
    monkeypatch.setattr(learner_module, "LOOK", 0.0)


class Watched:
    """A room learnt from frames that are compared with it, of `h` rows."""

    def __init__(self, h: int = H) -> None:
        self.h, self.now, self.rng = h, 50.0, np.random.default_rng(1)
        self.learner = Learner(pinned=False)
        numbers = torch.from_numpy(MATRIX), torch.from_numpy(SCALE)
        self.compared = Compared((h, W), *numbers, told=True)
        self.x = torch.zeros((1, 8, h + 4, W))

    def picture(self, scene):
        seen = scene[:, : self.h] + self.rng.normal(0, 2, (3, self.h, W))
        return np.clip(np.rint(seen), 0, 255).astype(np.uint8)

    def put(self, picture, alpha):
        """Have the next frame compared: the matte after the room's objections."""
        self.compared.tell(torch.from_numpy(picture).float(), self.x)
        return self.compared.object_to(torch.from_numpy(alpha)).numpy()

    def see(self, scene, alpha=None, *, count=1, cut=False):
        """Look `count` times; return the last matte."""
        alpha = np.zeros((self.h, W), np.float32) if alpha is None else alpha[: self.h]
        out = alpha
        for _ in range(count):
            out = self.put(self.picture(scene), alpha)
            present = bool(out.any())
            self.learner.follow(self.compared, self.now, present=present, cut=cut)
            self.now += 1 / 15
        return out


@pytest.fixture(params=[96, H], ids=["whole parts", "parts of nine rows"])
def watched(request):
    """A room that was seen alone for three seconds."""
    made = Watched(request.param)
    made.see(wall(), count=45)
    assert made.learner.room.known == 1.0
    return made


@pytest.mark.parametrize("h", [96, H], ids=["whole parts", "parts of nine rows"])
def test_a_frame_is_compared_as_the_processor_does_it(h):
    watched, person, plain = Watched(h), disc(130), wall()
    plain[:, :, 64:104] = 120
    watched.see(plain, count=45)
    called = np.maximum(person, disc(40, 14))  # furniture, too
    scene = before(plain, person)
    scene[1, :, 70:90] += 10  # a coloured light
    watched.see(scene, called, count=PROVEN + 3)
    picture = watched.picture(scene)
    twin = copy.deepcopy(watched.learner.room)
    # The light as it was found in the frame before.
    twin._matches, twin._lit_as = lambda *_: True, lambda *_: twin.state.room
    x, wanted = np.zeros((1, 7, h + 4, W), np.float32), called[:h].copy()

    twin.look(picture, wanted, (MATRIX, SCALE), x)
    twin.object_to(wanted)
    found = watched.put(picture, called[:h])

    assert x[0, 6].mean() > 0.5
    shadow = x[0, 6, 5 : h - 5, 74:86]
    assert 0.1 < np.median(shadow) < 0.9
    assert np.abs(x[0, 3:6]).max() > 1
    ours, theirs = watched.x[0, 3:7].numpy(), x[0, 3:]
    # Whose share hangs on a level more or less of what is around it.
    assert (np.abs(ours - theirs).max(axis=0) > 0.01).mean() < 0.001
    assert np.abs(ours - theirs).max() < 0.3
    assert not watched.x[0, 7].any()
    furniture = (called[:h] > person[:h]) & (called[:h] == 1)
    assert wanted[furniture].mean() < 0.2
    apart = np.abs(found - wanted)
    assert apart.mean() < (1e-4 if h % 8 == 0 else 0.01)
    assert found[cv2.erode(person, np.ones((5, 5)))[:h] > 0].min() == 1


def test_a_plain_part_of_the_room_is_taken_out_while_somebody_moves():
    watched, plain = Watched(96), wall()
    plain[:, :, 24:104] = 120
    watched.see(plain, count=45)
    called = np.zeros((H, W), np.float32)
    called[48:72, 48:72] = 1

    first = watched.see(plain, np.maximum(called, disc(130)))
    for k in range(40):
        person = disc(130 + 8 * (k % 4))
        last = watched.see(before(plain, person), np.maximum(called, person))

    inside = slice(52, 68), slice(52, 68)
    assert first[inside].min() == 1
    assert last[inside].mean() < 0.2
    assert last[cv2.erode(person, np.ones((5, 5)))[:96] > 0].min() == 1


def test_nothing_is_touched_while_nothing_is_known():
    made, alpha = Watched(), disc() * np.float32(0.7)
    alpha[0, 0] = np.nan

    found = made.put(made.picture(wall()), alpha)

    assert np.array_equal(found, alpha, equal_nan=True)
    assert not made.x.any()


def test_of_another_light_the_network_is_told_nothing_from_the_first_frame_on(watched):
    scene = wall()
    watched.put(watched.picture(scene), np.zeros((watched.h, W), np.float32))
    assert watched.x.any()

    alpha = watched.put(watched.picture(scene * 0.6), disc()[: watched.h])

    assert not watched.x.any()
    assert np.array_equal(alpha, disc()[: watched.h])


def test_a_room_is_forgotten_at_a_cut_before_the_next_frame(watched):
    watched.see(wall(3), cut=True)

    assert watched.learner.info["forgotten"] == "the scene changed"
    assert watched.compared.version == 0
    assert not watched.compared.known.whole.any()
    watched.put(watched.picture(wall()), disc()[: watched.h])
    assert not watched.x.any()


def test_what_is_no_number_is_not_learnt():
    made, alpha = Watched(), np.zeros((H, W), np.float32)
    alpha[:, :40] = np.nan

    for _ in range(60):
        made.put(made.picture(wall()), alpha)
        made.learner.follow(made.compared, made.now, present=True, cut=False)
        made.now += 1 / 15

    known = made.learner.room.map
    assert known[:, 60:].all()
    assert not known[:, :40].any()


def test_frames_between_two_looks_bring_nothing_to_the_gpu(watched, monkeypatch):
    monkeypatch.setattr(learner_module, "LOOK", 0.1)
    watched.learner._looked = watched.now
    watched.compared.known.numbers[0] = 7.0

    watched.see(wall(), count=2)
    assert watched.compared.known.numbers[0] == 7.0
    watched.see(wall())

    assert watched.compared.known.numbers[0] == pytest.approx(1, abs=0.05)


def test_a_new_plan_goes_on_with_what_is_known(watched):
    watched.compared.before.fill_(0.5)
    other = Watched(watched.h).compared

    other.inherit(watched.compared)
    fresh, watched.compared = watched.compared, other

    assert torch.equal(other.known.whole, fresh.known.whole)
    assert torch.equal(other.before, fresh.before)
    assert other.version == fresh.version > 0
    watched.compared = Watched(watched.h).compared  # one that has inherited nothing
    watched.see(wall())
    assert watched.compared.version == watched.learner.room.version


def test_nothing_of_the_room_is_left_after_a_wipe(watched):
    learner = watched.learner
    watched.see(before(wall(), disc()), disc(), count=PROVEN + 3)
    learner.words.recall(kept := learner.room.copy())
    held = (learner._seen, learner._alphas, learner._known.whole)
    there = watched.compared.pictures
    assert all(each.any() for each in (*held, *there))
    assert kept.any()

    learner.wipe()
    watched.compared.wipe()

    assert not any(each.any() for each in (*held, *there))
    assert not kept.any()
    assert learner.info["known"] == 0
    assert not any(
        plane.any() for plane in (learner.room._room, learner.room._seen, learner.room._weight)
    )


# The engine as a whole: a network that takes a piece of furniture for a part of the person.
SIZE = 384, 224
SCENE = Scene(*SIZE, backdrop(*SIZE), Look(light=40.0)).drawable
PERSON = (slice(90, None), slice(230, 330))
CHAIR = (slice(110, 180), slice(60, 140))


def room_of(seed=0):
    """A room in Y, U and V of a frame's size."""
    w, h = SIZE
    rng = np.random.default_rng(seed)
    small = rng.uniform(60, 190, (3, h // 8, w // 8)).astype(np.float32)
    small[1:] = 128 + (small[1:] - 125) / 4
    return np.stack([cv2.resize(p, SIZE, interpolation=cv2.INTER_LINEAR) for p in small])


def shot(seq, *, person, room=None):
    planes = room_of() if room is None else room
    planes = planes.copy()
    if person:
        planes[(slice(None), *PERSON)] = np.float32([40, 120, 140])[:, None, None]
        planes[0][PERSON] += (seq % 5) * 2
    planes += np.random.default_rng(seq).normal(0, 1.5, planes.shape)
    y, u, v = np.clip(np.rint(planes), 0, 255).astype(np.uint8)
    return Frame(Planes(y, u[::2, ::2].copy(), v[::2, ::2].copy()), seq / 15, seq)


class Fooled:
    """Calls the person and the chair one, whoever is there; knows nobody in a room alone."""

    def __init__(self, plan):
        self.plan, self.person = plan, False
        (full_h, full_w), (h, w) = plan.full, plan.size
        scale = (h / SIZE[1], w / SIZE[0])
        self.logits = torch.full((1, 1, full_h, full_w), -8.0)
        for rows, columns in (PERSON, CHAIR):
            top, bottom = ((rows.start or 0), (rows.stop or SIZE[1]))
            there = slice(round(top * scale[0]), round(bottom * scale[0]))
            self.logits[
                0, 0, there, round(columns.start * scale[1]) : round(columns.stop * scale[1])
            ] = 8.0

    def __call__(self, x):
        return self.logits if self.person else self.logits * 0 - 8


def shown(alpha, place):
    """Share of a place of the frame that `alpha` shows."""
    whole = cv2.resize(alpha, SIZE, interpolation=cv2.INTER_LINEAR)
    return float((whole[place] > 0.5).mean())


@pytest.fixture(params=["bisenet-small", "bisenet-r18"])
def fooled(request):
    """An engine whose network is fooled, and the network."""
    path = weights_dir() / f"{request.param}.safetensors"
    made = CudaSegmenter(str(path), device="cpu", form=Form(area=AREAS["low"]), examine=False)
    matte(made, shot(0, person=False), SCENE)
    made.reset()
    network = made._plan._network = Fooled(made._plan)
    made._stillness.watch = lambda matte: None
    yield made, network
    made.close()


def film(engine, *, alone, seq=0):
    """Show the room alone for so many frames, then somebody in it; the last matte."""
    made, network = engine
    network.person = False
    for k in range(alone):
        matte(made, shot(seq + k, person=False), SCENE)
    network.person = True
    for k in range(alone, alone + 12):
        last = matte(made, shot(seq + k, person=True), SCENE)
    return SimpleNamespace(alpha=last.alpha.copy(), raw=last.raw.copy())


def test_furniture_that_the_network_takes_for_somebody_is_shown_only_while_no_room_is_known(fooled):
    made, _ = fooled

    unknown = film(fooled, alone=0)
    made.reset()
    known = film(fooled, alone=40, seq=100)

    assert shown(unknown.alpha, CHAIR) > 0.9
    assert made.info["room"]["known"] > 0.9
    assert shown(known.alpha, CHAIR) < 0.1
    assert shown(known.raw, CHAIR) < 0.1
    assert min(shown(each.alpha, PERSON) for each in (unknown, known)) > 0.9
    assert made.info["room"]["showing"] == (made._learner.room._suspicious >= FRAMES) is True


def test_another_scene_is_another_room(fooled):
    made, network = fooled
    film(fooled, alone=40)
    network.person = False

    other = np.where(room_of() > 125, 20, 230).astype(np.float32)
    matte(made, shot(60, person=False, room=other), SCENE)

    assert made.info["room"]["known"] == 0
    assert made.info["room"]["forgotten"] == "the scene changed"
    assert not made._plan.compared.known.whole.any()


def test_a_reset_leaves_nothing_of_the_room_anywhere(fooled):
    made, _ = fooled
    film(fooled, alone=40)
    learner, compared = made._learner, made._plan.compared
    held = (learner._seen, learner._alphas, learner._known.whole, *compared.pictures[:5])
    assert all(each.any() for each in held)

    made.reset()

    assert not any(each.any() for each in held)
    assert made.lend_room() is None
    assert not made.room_map.any()


def test_a_plan_that_is_closed_leaves_nothing_of_the_room(fooled):
    made, _ = fooled
    film(fooled, alone=40)
    compared = made._plan.compared
    known, version = compared.known.whole.clone(), compared.version

    assert made.prepare(shot(70, person=True).planes, Scene(*SIZE, SCENE.behind, Look(mirror=True)))

    taken = made._plan.compared
    assert taken is not compared
    assert not any(each.any() for each in compared.pictures)
    assert torch.equal(taken.known.whole, known)
    assert taken.version == version > 0


def test_words_to_the_room_are_heard(fooled):
    made, network = fooled
    film(fooled, alone=40)
    network.person = False

    assert made.tell_room("forget")
    matte(made, shot(60, person=False), SCENE)
    forgotten = made.info["room"]
    made.tell_room("learn")
    for seq in range(61, 66):
        matte(made, shot(seq, person=False), SCENE)

    assert (forgotten["known"], forgotten["forgotten"]) == (0, "by your word")
    assert made.info["room"]["known"] == 1
    assert made.room_map.all()
    assert made.copy_room() is None  # it was not asked for before
    matte(made, shot(66, person=False), SCENE)
    kept, lent = made.copy_room(), made.lend_room()
    assert np.abs(kept.astype(int) - lent).max() <= 3  # a lesson later
    made.reset()
    made.recall_room(lent)
    for seq in (67, 68):
        matte(made, shot(seq, person=False), SCENE)
    assert made.info["room"]["known"] == 1
    assert not lent.any()


def test_a_word_is_void_after_a_while(monkeypatch):
    words, room = Words(), Room()
    words.tell("learn")
    monkeypatch.setattr("segmentation.motion.words.STALE", 0.0)

    words.take(room, 5.0, (4, 4))

    assert room._asked == float("-inf")
    assert not words.waiting


def test_a_network_of_every_form_is_told_of_the_room(watched):
    from segmentation.bisenet import BiSeNet
    from segmentation.engines import networks
    from segmentation.engines.weights_file import fold

    torch.manual_seed(0)
    size, cpu = (64, 96), torch.device("cpu")
    network = fold(BiSeNet(0.5, lean=True, room=True)).eval()
    x = torch.rand((1, 7, *size))
    bare = x.clone()
    bare[:, 3:] = 0

    with torch.inference_mode():
        wanted, untold = network(x), network(bare)
        made = networks.build("fused", network, size, cpu, torch.float32)
        found = made(networks.widened(x, made.inputs))

    assert (made.inputs, made.room) == (8, True)
    assert torch.allclose(found, wanted, atol=1e-4)
    assert (wanted - untold).abs().max() > 0.01
    report = networks.compare(network, size, cpu, torch.float32, kinds=networks.QUICK)
    assert all(each["logits"] < 1e-3 for each in report.values())


@pytest.mark.parametrize("form", ["eager", "fused"])
def test_the_shipped_network_with_a_room_runs_in_every_form(form):
    path = weights_dir() / "bisenet-small.safetensors"
    made = CudaSegmenter(str(path), device="cpu", form=Form(network=form, area=AREAS["balanced"]))
    said = []
    matte(made, shot(0, person=False), SCENE)
    plan = made._plan
    network = plan._network

    def heard(x):
        said.append(x[0, 3:7].clone())
        return network(x)

    plan._network = heard
    for seq in range(40):
        matte(made, shot(seq, person=False), SCENE)

    assert plan.rig.told
    assert plan._x.shape[1] == (8 if form == "fused" else 7)
    assert not said[0].any()
    assert said[-1][3].mean() > 0.2
    made.close()


def test_learning_that_fails_is_told_as_the_gpus_failure(fooled):
    from segmentation.errors import EngineError

    made, _ = fooled

    def lost(*_, **__):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    made._learner = SimpleNamespace(follow=lost, wipe=lambda: None)

    with pytest.raises(EngineError, match="illegal memory access"):
        matte(made, shot(1, person=False), SCENE)
