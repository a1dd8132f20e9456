"""The network: its shapes, its folding, its weights on disk, and that it can learn."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install -e .[cuda]")
pytest.importorskip("safetensors", reason="needs the extra: pip install -e .[cuda]")

from safetensors import safe_open  # noqa: E402

from segmentation.bisenet import BiSeNet, channels, with_room, without_room  # noqa: E402
from segmentation.engines.weights_file import fold, load_weights, save_weights  # noqa: E402

WIDTH = 0.125


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny tensors lose more to waiting threads than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def network() -> BiSeNet:
    """A narrow network whose BatchNorms have seen something."""
    torch.manual_seed(0)
    model = BiSeNet(WIDTH).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, 64, 96))
    return model.eval()


@pytest.mark.parametrize("size", [(32, 32), (96, 160), (64, 224)])
def test_logits_have_the_size_of_the_picture(network, size):
    logits = network(torch.randn(2, 3, *size))

    assert logits.shape == (2, 1, *size)


def test_enlarging_logits_for_inference_is_bilinear_as_in_training(network):
    logits = torch.randn(2, 1, 20, 36)

    enlarged = network._enlarged(logits)

    expected = torch.nn.functional.interpolate(logits, scale_factor=2.0, mode="bilinear")
    assert torch.allclose(enlarged, expected, atol=1e-5)


def test_auxiliary_logits_come_only_while_training(network):
    x = torch.randn(2, 3, 64, 64)

    network.train()
    trained = network(x)
    network.eval()
    alone = network(x)

    assert [t.shape for t in trained] == [(2, 1, 64, 64), (2, 1, 16, 16), (2, 1, 16, 16)]
    assert isinstance(alone, torch.Tensor)


def test_a_batch_gives_what_its_pictures_give_alone(network):
    x = torch.randn(3, 3, 64, 96)

    together = network(x)
    alone = torch.cat([network(one[None]) for one in x])

    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("width", [WIDTH, 0.375, 1.0])
def test_folding_changes_nothing_but_rounding(width):
    torch.manual_seed(0)
    model = BiSeNet(width).train()
    with torch.no_grad():
        model(torch.randn(2, 3, 64, 64))
    model.eval()
    x = torch.randn(1, 3, 64, 96)
    before = model(x)

    after = fold(model)(x)

    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())


def test_saved_weights_come_back_bit_for_bit(network, tmp_path: Path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    fold(network)

    save_weights(network, first)
    save_weights(load_weights(first), second)

    with safe_open(str(first), "pt") as one, safe_open(str(second), "pt") as two:
        assert list(one.keys()) == list(two.keys())
        assert all(torch.equal(one.get_tensor(k), two.get_tensor(k)) for k in one.keys())  # noqa: SIM118
    assert load_weights(first).width == WIDTH


def test_compact_weights_are_half_the_size_and_nearly_the_same(network, tmp_path: Path):
    whole, compact = tmp_path / "whole.safetensors", tmp_path / "compact.safetensors"
    x = torch.randn(1, 3, 64, 64)
    save_weights(fold(network), whole)

    save_weights(network, compact, compact=True)

    assert compact.stat().st_size < 0.75 * whole.stat().st_size
    with torch.no_grad():
        apart = (load_weights(compact)(x).sigmoid() - load_weights(whole)(x).sigmoid()).abs()
    assert 0 < float(apart.mean()) < 0.01


def test_weights_that_are_cut_short_are_refused(network, tmp_path: Path):
    path = tmp_path / "cut.safetensors"
    save_weights(fold(network), path)
    path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(ValueError, match=r"cut\.safetensors: not a weights file"):
        load_weights(path)


def test_weights_of_another_width_are_refused(network, tmp_path: Path):
    path = tmp_path / "wide.safetensors"
    fold(network).width = 0.25
    save_weights(network, path)

    with pytest.raises(ValueError, match=r"not a BiSeNet of width 0\.25"):
        load_weights(path)


def test_the_paper_s_spatial_path_is_there_at_full_width_only():
    assert BiSeNet(1.0).spatial is not None
    assert BiSeNet(0.375).spatial is None
    assert BiSeNet(WIDTH, spatial_path=True)(torch.randn(2, 3, 64, 64))[0].shape[2:] == (64, 64)


def test_half_the_depth_comes_back_from_disk_with_its_depth(tmp_path: Path):
    torch.manual_seed(0)
    model = fold(BiSeNet(WIDTH, blocks=1))
    path = tmp_path / "shallow.safetensors"
    save_weights(model, path)
    x = torch.randn(1, 3, 64, 96)

    reread = load_weights(path)

    assert reread.blocks == 1
    assert len(reread.context.layer3) == 1
    torch.testing.assert_close(reread(x), model(x), rtol=1e-2, atol=1e-2)


def test_a_lean_network_has_less_to_do_and_comes_back_from_disk_lean(tmp_path: Path):
    torch.manual_seed(0)
    model, whole = BiSeNet(0.25, lean=True), BiSeNet(0.25)
    path = tmp_path / "lean.safetensors"
    save_weights(fold(model), path)
    x = torch.randn(1, 3, 64, 96)

    reread = load_weights(path)

    assert reread.lean
    assert operations(model, x) < 0.82 * operations(whole, x)
    torch.testing.assert_close(reread(x), model(x), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("width", [0.25, 0.75])
def test_with_nothing_known_of_the_room_it_answers_as_without(width, tmp_path: Path):
    torch.manual_seed(0)
    model = fold(BiSeNet(width, room=True))
    path = tmp_path / "room.safetensors"
    save_weights(model, path)
    seen = torch.randn(1, 3, 64, 96)
    known = torch.cat((seen, torch.randn(1, 4, 64, 96)), dim=1)
    nothing = torch.cat((seen, torch.zeros(1, 4, 64, 96)), dim=1)

    reread = load_weights(path)

    assert reread.room
    assert reread.inputs == 7
    torch.testing.assert_close(reread(known), model(known), rtol=1e-2, atol=1e-2)
    assert not torch.allclose(model(known), model(nothing), atol=1e-3)
    wanted = model(nothing)
    torch.testing.assert_close(without_room(model)(seen), wanted)
    torch.testing.assert_close(with_room(model)(known), wanted)  # new inputs weigh nothing yet


def operations(model: BiSeNet, x: torch.Tensor) -> int:
    """Multiplications of every convolution that a picture passes through."""
    counted = []

    def count(conv: torch.nn.Conv2d, _given: object, out: torch.Tensor) -> None:
        counted.append(out.numel() * conv.weight[0].numel())

    hooks = [
        m.register_forward_hook(count) for m in model.modules() if isinstance(m, torch.nn.Conv2d)
    ]
    with torch.no_grad():
        model.eval()(x)
    for hook in hooks:
        hook.remove()
    return sum(counted)


def test_channel_counts_are_multiples_of_eight():
    assert [channels(64, w) for w in (0.05, 0.25, 0.375, 0.5, 1.0)] == [8, 16, 24, 32, 64]


def test_loss_falls_on_one_tiny_batch():
    torch.manual_seed(0)
    model = BiSeNet(WIDTH).train()
    x = torch.randn(4, 3, 64, 64)
    truth = torch.zeros(4, 1, 64, 64)
    truth[..., 16:, 20:44] = 1
    x += 2 * truth
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []

    for _ in range(20):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x)[0], truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < 0.5 * losses[0]
