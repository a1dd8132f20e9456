"""Fit: learns, resumes exactly, shares work, and stops with a clear word."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from segmentation.bisenet import BiSeNet
from segmentation.engines.weights_file import fold, load_weights, save_weights
from tests.train.people import write_folder
from train import engine, start
from train.__main__ import main
from train.data.datasets import find_pairs
from train.data.shards import write_shards
from train.engine import Learner, Stepper
from train.errors import CheckpointError, NotFiniteError, RecipeError
from train.fit import fit
from train.place import Place
from train.recipe import Data, Distil, Fit, Network, Recipe
from train.run import Run
from train.start import make_learner
from train.views import teachers
from train.views.sets import read_sets
from train.weights.checkpoint import load_checkpoint, load_mean, load_network

ROOT = Path(__file__).parents[2]
ALONE = Place(workers=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_folder(root / "train", 12)
    write_folder(root / "val", 3, seed=100)
    (root / "rooms").mkdir()
    for i in range(2):
        noise = np.random.default_rng(i).integers(0, 255, (8, 8, 3), np.uint8)
        cv2.imwrite(str(root / "rooms" / f"{i}.png"), cv2.resize(noise, (96, 72)))
    return root


def tiny(**changes) -> Recipe:
    return Recipe(
        name="tiny",
        network=Network(width=0.05),
        data=Data(train=("train",), validation=("val",), rooms="rooms"),
        fit=Fit(**{"epochs": 2, "views": 16, "batch": 4, "side": 48, "warmup": 2, "validate": 1,
                   "sheet": 2, "amp": "off"} | changes),
    )  # fmt: skip


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def as_toml(recipe: Recipe) -> str:
    text = f'name = "{recipe.name}"\n'
    for part in ("network", "data", "fit", "distil"):
        text += f"[{part}]\n"
        for key, value in dataclasses.asdict(getattr(recipe, part)).items():
            text += f"{key} = {json.dumps(value)}\n"
    return text


def apart(recipe: Recipe, data: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """`train fit` as people run it, with a process that makes views.

    On its own, because torch handles the end of such processes in a signal handler, which pytest
    lets run on the few kilobytes that faulthandler has for it: on some processors too few.
    """
    path = folder.with_suffix(".toml")
    path.write_text(as_toml(recipe))
    return subprocess.run(
        [sys.executable, "-m", "train", "fit", path, "--data", data, "-o", folder,
         "--threads", "1", "--workers", "1", "--device", "cpu"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def same(first: dict, second: dict) -> bool:
    return all(torch.equal(first[k], second[k]) for k in first) and first.keys() == second.keys()


def test_a_run_leaves_checkpoints_figures_and_a_sheet(data, tmp_path: Path):
    finished = fit(tiny(), data, tmp_path, ALONE)

    assert finished
    assert {p.name for p in tmp_path.iterdir()} == {
        "last.pt", "best.pt", "log.jsonl", "worst-0002.jpg"}  # fmt: skip
    first, second = lines(tmp_path)
    assert (first["epoch"], second["epoch"], second["step"]) == (1, 2, 8)
    assert second["loss"] == pytest.approx(sum(second["terms"].values()), abs=1e-4)
    assert 0 <= second["validation"]["miou"] <= 1
    assert load_network(tmp_path / "last.pt").width == 0.05


def test_a_resumed_run_equals_one_that_never_stopped(data, tmp_path: Path):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    fit(tiny(), data, straight, ALONE)
    recipe, stop = tiny(), threading.Event()
    sets = read_sets(recipe, data)
    torch.manual_seed(recipe.fit.seed)
    learner = make_learner(recipe, data, sets, ALONE.device)
    run = Run(recipe, broken, ALONE, sets,
              Stepper(learner, recipe, device=ALONE.device, amp=None), None)  # fmt: skip
    stop.set()
    assert run(stop) is False
    assert load_checkpoint(broken / "last.pt")["batch"] == 1

    fit(recipe, data, broken, ALONE, resume=True)

    one, other = (load_checkpoint(f / "last.pt") for f in (straight, broken))
    assert same(one["ema"], other["ema"])
    assert same(one["model"], other["model"])
    assert [x["loss"] for x in lines(straight)] == [x["loss"] for x in lines(broken)]


def test_a_model_teaches_each_view_and_the_first_epochs_are_small(
    data, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(teachers, "HEARD", 0.0)  # it was taught to see people, not drawings
    recipe = tiny(side=64, early_side=32, early=0.5)
    weights = ROOT / "segmentation/weights/bisenet-small-int8.xml"
    taught = dataclasses.replace(recipe, distil=Distil(models=(f"{weights}=1",), share=0.5))
    fit(recipe, data, tmp_path / "alone", ALONE)
    fit(taught, data, tmp_path / "taught", ALONE)

    alone, other = (lines(tmp_path / name) for name in ("alone", "taught"))
    assert [x["epoch"] for x in other] == [1, 2]
    assert [x["loss"] for x in alone] != [x["loss"] for x in other]
    run = Run(taught, tmp_path / "run", ALONE, read_sets(taught, data),
              Stepper(make_learner(taught, data, read_sets(taught, data), ALONE.device), taught,
                      device=ALONE.device, amp=None), None)  # fmt: skip
    assert max(max(run.plan.size(0, i)) for i in range(8)) <= 32
    assert max(max(run.plan.size(1, i)) for i in range(8)) > 32


def test_a_fifth_of_the_batches_is_as_small_as_quality_low_has_them(data, tmp_path: Path):
    recipe = tiny(side=96, low_side=32)
    learner = make_learner(recipe, data, read_sets(recipe, data), ALONE.device)
    stepper = Stepper(learner, recipe, device=ALONE.device, amp=None)
    run = Run(recipe, tmp_path / "run", ALONE, read_sets(recipe, data), stepper, None)
    small = [max(run.plan.size(0, i)) <= 32 for i in range(500)]
    assert 0.15 < sum(small) / 500 < 0.25


def test_walls_stand_beside_rooms_and_never_alone(data):
    recipe = tiny()
    with_walls, none = (
        dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, **change))
        for change in ({"walls": 5}, {"walls": 5, "rooms": ""})
    )

    rooms = read_sets(with_walls, data).rooms
    assert len(rooms) == 2 + 5
    assert rooms[-1].shape == (384, 512, 3)
    assert read_sets(none, data).rooms == []


def test_ctrl_c_leaves_a_checkpoint_to_resume_from(data, tmp_path: Path):
    recipe, folder = tmp_path / "tiny.toml", tmp_path / "run"
    recipe.write_text(as_toml(tiny(epochs=500)))
    process = subprocess.Popen(
        [sys.executable, "-m", "train", "fit", recipe, "--data", data, "-o", folder,
         "--threads", "1", "--device", "cpu"],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 150
    while not (folder / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)

    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=100)

    assert process.returncode == 130, told
    assert "go on with --resume" in told
    assert "Traceback" not in told
    assert load_checkpoint(folder / "last.pt")["step"] >= 4


def test_views_are_made_in_another_process_though_opencv_had_threads_before(data, tmp_path: Path):
    # Calibration on views this large starts OpenCV's threads. The network is not as narrow as the
    # others here: oneDNN crashes in the gradient of 8 channels on pictures this large.
    save_weights(fold(BiSeNet(0.25)), tmp_path / "net.safetensors")
    recipe = dataclasses.replace(
        tiny(epochs=1, side=256),
        network=Network(width=0.25, start=str(tmp_path / "net.safetensors")),
    )

    done = apart(recipe, data, tmp_path / "run")

    assert done.returncode == 0, done.stderr
    assert lines(tmp_path / "run")[0]["step"] == 4


def test_two_processes_give_the_curve_of_one(data, tmp_path: Path):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(as_toml(tiny(epochs=2, views=32, batch=8, learning_rate=2e-4)))
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    told = ["fit", str(recipe), "--data", str(data), "--device", "cpu", "--threads", "1",
            "--workers", "0"]  # fmt: skip
    assert main([*told, "-o", str(alone)]) == 0

    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0",
         "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "-m", "train", *told,
         "-o", str(shared)],
        cwd=ROOT, check=True, capture_output=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip

    for one, two in zip(lines(alone), lines(shared), strict=True):
        assert one["step"] == two["step"]
        assert two["loss"] == pytest.approx(one["loss"], rel=0.05)  # each normalises its own half
        assert two["validation"]["n"] == 3


def test_shards_stream_and_resume_at_the_same_pictures(data, tmp_path: Path):
    write_shards(find_pairs(data / "train"), tmp_path / "shards", size=5)
    recipe = dataclasses.replace(
        tiny(), data=Data(train=("shards/*.tar",), validation=("val",)))  # fmt: skip
    (tmp_path / "val").symlink_to(data / "val")

    done = apart(recipe, tmp_path, tmp_path / "run")
    fit(recipe, tmp_path, tmp_path / "again", ALONE)

    assert done.returncode == 0, done.stderr
    assert [x["loss"] for x in lines(tmp_path / "run")] == [
        x["loss"] for x in lines(tmp_path / "again")]  # fmt: skip


def test_a_loss_that_is_not_finite_stops_and_names_every_term():
    torch.manual_seed(0)
    learner = Learner(BiSeNet(0.05)).train()
    stepper = Stepper(learner, tiny(), device=ALONE.device, amp=None)
    batch = np.zeros((2, 64, 64, 3), np.uint8), np.full((2, 64, 64), np.nan, np.float32)
    before = learner.network.logits.weight.clone()

    with pytest.raises(NotFiniteError, match=r"step 0.*bce nan, dice nan, l1 nan, aux16 nan"):
        stepper(batch, np.random.default_rng(0))

    assert torch.equal(before, learner.network.logits.weight)


def test_resuming_with_another_recipe_names_what_changed(data, tmp_path: Path):
    fit(tiny(epochs=1), data, tmp_path, ALONE)

    with pytest.raises(RecipeError, match=r"\[fit\] learning_rate was 0.002 and is 0.5"):
        fit(tiny(epochs=1, learning_rate=0.5), data, tmp_path, ALONE, resume=True)
    with pytest.raises(CheckpointError, match="is there already"):
        fit(tiny(epochs=1), data, tmp_path, ALONE)


def test_starting_from_a_checkpoint_of_another_width_is_refused(data, tmp_path: Path):
    fit(tiny(epochs=1), data, tmp_path, ALONE)
    wide = dataclasses.replace(
        tiny(), network=Network(width=0.25, start=str(tmp_path / "last.pt")))  # fmt: skip

    with pytest.raises(CheckpointError, match=r"not a BiSeNet of width 0\.25"):
        fit(wide, data, tmp_path / "wide", ALONE)


def test_a_corrupt_picture_stops_with_its_name_and_keeps_the_checkpoint(data, tmp_path: Path):
    folder = write_folder(tmp_path / "train", 6)
    (tmp_path / "val").symlink_to(data / "val")
    recipe = dataclasses.replace(
        tiny(), data=Data(train=("train",), validation=("val",), memory_gb=0.0))  # fmt: skip
    (folder / "img" / "003.jpg").write_bytes(b"not a picture")

    done = apart(recipe, tmp_path, tmp_path / "run")

    assert done.returncode == 1
    assert "003.jpg: 13 bytes that are not a picture" in done.stderr


def test_an_imagenet_trunk_gives_what_it_gave_before_its_batchnorms_were_unfolded(tmp_path: Path):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folded, biases = {}, {}
    reference = BiSeNet(1.0).context
    for name, _ in start._after_convolutions(reference):
        weight = reference.get_submodule(name).weight
        biases[name] = torch.randn(len(weight)) * 0.1
        if not (name.startswith("layer4") and "downsample" not in name):
            folded[f"{name}.weight"], folded[f"{name}.bias"] = weight.detach().clone(), biases[name]
    save_file(folded, str(tmp_path / "trunk.safetensors"))
    pictures = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), np.uint8)
    context = BiSeNet(1.0).context

    start.start_from_imagenet(context, tmp_path / "trunk.safetensors", pictures)

    x, _ = engine.to_device((pictures, np.zeros((4, 64, 64), np.float32)), ALONE.device)
    context.eval()
    with torch.no_grad():
        weight, bias = folded["conv1.weight"], folded["conv1.bias"]
        wanted = torch.relu(torch.nn.functional.conv2d(x, weight, bias, 2, 3))
        torch.testing.assert_close(context(x)[0], wanted, rtol=1e-3, atol=1e-3)
        eighth = context(x)[3]
    assert torch.isfinite(eighth).all()


def test_a_narrow_network_learns_from_the_wide_trunk_s_features(data, tmp_path: Path):
    from safetensors.torch import save_file

    context = BiSeNet(1.0).context
    folded = {}
    for name, norm in start._after_convolutions(context):
        folded[f"{name}.weight"] = context.get_submodule(name).weight.detach()
        folded[f"{name}.bias"] = norm.bias.detach()
    save_file(folded, str(tmp_path / "trunk.safetensors"))
    recipe = dataclasses.replace(
        tiny(epochs=1, views=8), distil=Distil(features=1.0),
        network=Network(width=0.05, imagenet=str(tmp_path / "trunk.safetensors")))  # fmt: skip

    fit(recipe, data, tmp_path / "run", ALONE)

    assert lines(tmp_path / "run")[0]["terms"]["features"] > 0
    state = load_checkpoint(tmp_path / "run" / "last.pt")
    assert not any("teacher" in name for name in state["model"])


def test_a_pruned_network_learns_from_its_teacher_s_mattes(data, tmp_path: Path):
    fit(tiny(epochs=1, views=8), data, tmp_path / "wide", ALONE)
    recipe = dataclasses.replace(
        tiny(epochs=1, views=8), network=Network(width=0.05, start="prune"),
        distil=Distil(teacher=str(tmp_path / "wide" / "last.pt"), alpha=1.0))  # fmt: skip

    fit(recipe, data, tmp_path / "narrow", ALONE)

    terms = lines(tmp_path / "narrow")[0]["terms"]
    assert terms["alpha"] > 0
    assert terms["features"] == 0


def test_a_lean_network_is_pruned_out_of_shipped_weights_and_exported_lean(data, tmp_path: Path):
    fit(tiny(epochs=1, views=8), data, tmp_path / "wide", ALONE)
    wide = tmp_path / "wide.safetensors"
    save_weights(load_network(tmp_path / "wide" / "last.pt"), wide)
    recipe = dataclasses.replace(
        tiny(epochs=0, views=8),  # least squares alone
        network=Network(width=0.05, lean=True, start="prune", wide=str(wide)))  # fmt: skip

    assert fit(recipe, data, tmp_path / "lean", ALONE)

    assert load_network(tmp_path / "lean" / "last.pt").lean
    with pytest.raises(CheckpointError, match="these have no mean"):
        load_mean([tmp_path / "lean" / "last.pt", wide])


def test_steady_views_of_a_picture_are_asked_to_agree():
    recipe = tiny()
    recipe = dataclasses.replace(recipe, loss=dataclasses.replace(recipe.loss, temporal=2.0))
    stepper = Stepper(Learner(BiSeNet(0.05)).train(), recipe, device=ALONE.device, amp=None)
    batch = np.zeros((2, 64, 64, 3), np.uint8), np.zeros((2, 64, 64), np.float32)

    terms = stepper(batch, np.random.default_rng(0))

    assert terms["temporal"] > 0
    assert stepper.step == 1


def test_half_precision_is_taken_only_where_it_is_faster(monkeypatch):
    learner = Learner(BiSeNet(0.05))
    for bf16, wanted in ((0.5, torch.bfloat16), (0.9, None)):
        monkeypatch.setattr(engine, "_trial", lambda n, x, d, amp, t=bf16: t if amp else 1.0)

        assert engine.choose_amp(learner, Fit(), ALONE.device) is wanted


def test_shipped_weights_give_what_they_gave_before_their_batchnorms_were_unfolded(
    data, tmp_path: Path
):
    recipe = dataclasses.replace(
        tiny(epochs=1, views=8), network=Network(width=0.05, start="net.safetensors"))  # fmt: skip
    network = fold(BiSeNet(0.05))
    for bias in (p for name, p in network.named_parameters() if name.endswith("bias")):
        torch.nn.init.normal_(bias, std=0.2)
    save_weights(network, tmp_path / "net.safetensors")
    for name in ("train", "val", "rooms"):
        (tmp_path / name).symlink_to(data / name)
    sets = read_sets(recipe, tmp_path)

    learner = make_learner(recipe, tmp_path, sets, ALONE.device)

    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        wanted = load_weights(tmp_path / "net.safetensors").eval()(x)
        torch.testing.assert_close(learner.network.eval()(x), wanted, rtol=1e-3, atol=1e-3)
    assert fit(recipe, tmp_path, tmp_path / "run", ALONE)
    wide = dataclasses.replace(recipe, network=Network(width=0.1, start="net.safetensors"))
    with pytest.raises(CheckpointError, match=r"of width 0\.05 .*, expected of width 0\.1"):
        make_learner(wide, tmp_path, sets, ALONE.device)
