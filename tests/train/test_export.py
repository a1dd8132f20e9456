"""Export: what is written gives what the network gives, and nothing bad is written."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install -e .[train]")
pytest.importorskip("safetensors", reason="needs the extra: pip install -e .[train]")

from segmentation.bisenet import BiSeNet  # noqa: E402
from segmentation.engines.openvino import OpenVinoEngine  # noqa: E402
from segmentation.engines.weights_file import load_weights  # noqa: E402
from tests.train.people import write_folder  # noqa: E402
from train.__main__ import main  # noqa: E402
from train.data.datasets import find_pairs, read_matte  # noqa: E402
from train.errors import CheckpointError, ExportError  # noqa: E402
from train.weights import export as exporting  # noqa: E402
from train.weights.checkpoint import load_network, save_checkpoint  # noqa: E402

WIDTH = 0.125


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = BiSeNet(WIDTH).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, 64, 64))
    path = tmp_path / "last.pt"
    save_checkpoint({"ema": model.state_dict(), "width": WIDTH}, path)
    return path


def test_every_file_gives_the_alpha_of_the_network(checkpoint, tmp_path: Path, capsys):
    stem = tmp_path / "out" / "net"

    code = main(["export", str(checkpoint), "-o", str(stem), "--onnx"])

    assert code == 0
    assert "alpha differs by at most" in capsys.readouterr().out
    for height, width in ((96, 160), (64, 64)):
        x = np.random.default_rng(1).normal(0, 1, (1, 3, height, width)).astype(np.float32)
        with torch.no_grad():
            wanted = torch.sigmoid(load_network(checkpoint)(torch.from_numpy(x)))[0, 0].numpy()
            reread = torch.sigmoid(
                load_weights(stem.with_suffix(".safetensors"))(torch.from_numpy(x))
            )[0, 0].numpy()
        for kind in (".xml", ".onnx"):
            engine = OpenVinoEngine(stem.with_suffix(kind), examine=False)
            assert np.abs(engine.infer(x) - wanted).max() < exporting.TOLERANCE
            engine.close()
        assert np.abs(reread - wanted).max() < exporting.TOLERANCE


def test_of_several_checkpoints_the_mean_is_exported(checkpoint, tmp_path: Path, capsys):
    other, wide = tmp_path / "other.pt", tmp_path / "wide.pt"
    torch.manual_seed(1)
    save_checkpoint({"ema": BiSeNet(WIDTH).state_dict(), "width": WIDTH}, other)
    save_checkpoint({"ema": BiSeNet(0.25).state_dict(), "width": 0.25}, wide)

    exporting.export([checkpoint, other], tmp_path / "mean")

    one, two, mean = (
        network.state_dict()["head4.0.weight"]
        for network in (
            load_network(checkpoint),
            load_network(other),
            load_weights(tmp_path / "mean.safetensors"),
        )
    )
    assert torch.allclose(mean, (one + two) / 2, atol=1e-3)
    assert not torch.allclose(mean, one, atol=1e-3)
    assert main(["export", str(checkpoint), str(wide), "-o", str(tmp_path / "x")]) == 1
    assert "wide.pt: of width 0.25 with 2 blocks" in capsys.readouterr().err


def test_evened_out_no_more_of_the_room_leaks_than_of_the_person_is_cut(
    checkpoint, tmp_path: Path, capsys
):
    pairs = find_pairs(write_folder(tmp_path / "pictures", 6))

    class Sure(BiSeNet):
        """Takes what is bright for the person, and somewhat dark walls too."""

        def forward(self, x):
            return 2 * (x.mean(dim=1, keepdim=True) + 1.4) + self.logits.bias

    network = Sure(WIDTH).eval()
    torch.nn.init.zeros_(network.logits.bias)

    def faults() -> tuple[float, float]:
        figures = exporting.Figures()
        for pair in pairs:
            with torch.inference_mode():
                alpha = network(torch.from_numpy(exporting._prepared(pair))).sigmoid()
            truth = read_matte(pair.matte)
            figures.add(cv2.resize(alpha[0, 0].numpy(), truth.shape[::-1]), truth)
        return figures.summary()["leak"], figures.summary()["cut"]

    before = faults()
    lowered = exporting.excess(exporting._logits(network), pairs)
    with torch.no_grad():
        network.logits.bias -= lowered
    leak, cut = faults()

    assert before[0] > 0.1 > before[1]
    assert leak < 0.5 * before[0]
    assert leak == pytest.approx(cut, abs=0.03)
    again = exporting.excess(exporting._logits(network), pairs)
    assert again < 0.05, "what is even stays as it is"
    assert main(["export", str(checkpoint), "-o", str(tmp_path / "net"), "--even"]) == 2
    assert "Add --calibrate" in capsys.readouterr().err


def test_a_graph_is_lowered_as_the_network_is(checkpoint):
    network = exporting.load_mean([checkpoint])
    graph = exporting.to_openvino(exporting.Matting(network).eval())
    x = np.random.default_rng(5).normal(size=(1, 3, 64, 96)).astype(np.float32)
    before = exporting._logits_of_alpha(exporting.runner(graph))(x)

    exporting.lower(graph, 0.4)

    after = exporting._logits_of_alpha(exporting.runner(graph))(x)
    np.testing.assert_allclose(after, before - 0.4, atol=1e-4)
    np.testing.assert_allclose(exporting._logits(network)(x), before, atol=1e-3)


def test_int8_is_written_when_it_keeps_the_person(checkpoint, tmp_path: Path, monkeypatch):
    pytest.importorskip("nncf", reason="needs the extra: pip install -e .[train]")
    monkeypatch.setattr(exporting, "INT8_LOSS", 100.0)
    pictures = write_folder(tmp_path / "pictures", 8)

    files = exporting.export([checkpoint], tmp_path / "net", calibrate=pictures, even=True)

    small = tmp_path / "net-int8.xml"
    assert [f.path.name for f in files] == ["net.safetensors", "net.xml", "net-int8.xml"]
    engine = OpenVinoEngine(small, examine=False)
    assert engine.precision == "int8"
    assert engine.layout.name == "bisenet"
    engine.close()


def test_int8_that_loses_the_person_is_refused(checkpoint, tmp_path: Path, monkeypatch):
    figures = iter([0.9, 0.897])
    monkeypatch.setattr(exporting, "quantise", lambda graph, pictures: graph)
    monkeypatch.setattr(exporting, "person_iou", lambda run, pairs: next(figures))
    pictures = write_folder(tmp_path / "pictures", 8)

    with pytest.raises(ExportError, match=r"int8 loses 0\.30 points"):
        exporting.export([checkpoint], tmp_path / "net", calibrate=pictures)

    assert not (tmp_path / "net-int8.xml").exists()
    assert (tmp_path / "net.xml").exists()


def test_a_checkpoint_of_another_width_is_named(checkpoint, tmp_path: Path, capsys):
    state = torch.load(checkpoint, weights_only=True)
    save_checkpoint({**state, "width": 0.25}, checkpoint)

    code = main(["export", str(checkpoint), "-o", str(tmp_path / "net")])

    assert code == 1
    assert "not a BiSeNet of width 0.25" in capsys.readouterr().err


class Trap:
    """Runs code when unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("/nonexistent/never"),))


def test_a_pickle_that_could_run_code_is_refused(tmp_path: Path):
    path = tmp_path / "trap.pt"
    torch.save({"ema": Trap(), "width": 1.0}, path)

    with pytest.raises(CheckpointError, match="could run code when read; refused"):
        load_network(path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps([1, 2])])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "bad.pt"
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match=r"bad\.pt"):
        load_network(path)


def test_a_full_disk_leaves_the_checkpoint_before_it(checkpoint, tmp_path: Path):
    before = checkpoint.read_bytes()
    full = tmp_path / "last.pt.tmp"
    full.symlink_to("/dev/full")

    with pytest.raises(CheckpointError, match=r"No space left.*untouched"):
        save_checkpoint({"ema": {}, "width": 1.0}, checkpoint)

    assert checkpoint.read_bytes() == before
