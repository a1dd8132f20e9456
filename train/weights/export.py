"""A checkpoint becomes what the program loads: safetensors for CUDA, OpenVINO IR for CPUs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segmentation.bisenet import MEAN, STD, BiSeNet
from segmentation.constants import ROOM_INPUTS, ROOM_SCALE
from segmentation.engines.weights_file import load_weights, save_weights
from segmentation.sizes import AREAS, input_size
from train.data.datasets import Pair, find_pairs, read_image, read_matte
from train.errors import ExportError, UsageError
from train.figures.metrics import PERSON, ROOM, Figures
from train.weights.checkpoint import load_mean

log = logging.getLogger(__name__)

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]

TOLERANCE = 0.01  # weights rounded to fp16 may move any pixel's alpha by this much, on photographs
INT8_LOSS = 0.2  # points of person IoU that int8 may lose
SIZES = ((192, 320), (224, 288), (256, 256))  # of noise, where there are no pictures
CAUTION = 2.0  # logits that the last bias may be lowered by
CALIBRATION = 300  # pictures that quantisation looks at
CHECK = 300  # other pictures on which fp32 and int8 are compared


@dataclass(frozen=True, slots=True)
class Exported:
    """One file that was written and how far it is from the network it came from."""

    path: Path
    size: int  # bytes, graph and weights
    largest: float  # greatest difference of alpha on one pixel
    mean: float  # mean difference of alpha
    person_iou: float | None = None  # against the mattes that came with the pictures


class Matting(nn.Module):
    """The network with its sigmoid, which is what gets exported."""

    def __init__(self, network: BiSeNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: x: (B, inputs, H, W) float, normalised; returns: (B, 1, H, W) alpha in 0..1."""
        return torch.sigmoid(self.network(x))


def export(
    checkpoints: list[Path],
    stem: Path,
    *,
    calibrate: Path | None = None,
    onnx: bool = False,
    compact: bool = False,
    even: bool = False,
) -> list[Exported]:
    """Write `stem`.safetensors, `stem`.xml/.bin and, with `calibrate`, `stem`-int8.xml/.bin.

    Of several checkpoints the mean of their weights is exported: `checkpoint.load_mean`.
    `compact` keeps the kernels of the first as int8, at half the size.

    `calibrate` is a folder of training pictures, `img/` and `mask/`; with `even`, the last bias
    is set on them so that no more of the room leaks than of the person is cut: `excess`. With
    `onnx`, `stem`.onnx in float32 too, for other programs.

    Raises:
        CheckpointError: the checkpoint cannot be read or does not match its own width.
        DataError: `calibrate` holds no pictures with mattes.
        UsageError: `even` without `calibrate`.
        ExportError: an exported file differs too much; that file is not written.
    """
    import openvino as ov

    network = load_mean(checkpoints)
    pairs = _spread(find_pairs(calibrate), CALIBRATION + CHECK) if calibrate else []
    calibration, check = pairs[0::2], pairs[1::2]
    if even and not calibrate:
        raise UsageError("nothing to even out on", hint="Add --calibrate FOLDER.")
    if even:
        shift = excess(_logits(network), pairs)
        log.info("The last bias goes down by %.2f logits", shift)
        with torch.no_grad():
            assert network.logits.bias is not None
            network.logits.bias -= shift
    eager = Matting(network).eval()
    probes = [_prepared(pair) for pair in check[:24]] or _noise()
    stem.parent.mkdir(parents=True, exist_ok=True)
    exported = [_export_weights(network, stem, probes, compact=compact)]

    graph = to_openvino(eager, network.inputs)
    full = stem.with_name(stem.name + ".xml")
    _write_graph(graph, full)
    halved = ov.Core().read_model(full)
    exported.append(_compared(full, _eager(eager), runner(halved), probes, TOLERANCE))

    if onnx:
        portable = stem.with_name(stem.name + ".onnx")
        _write_onnx(eager, portable, network.inputs)
        read = runner(ov.Core().read_model(portable))
        exported.append(_compared(portable, _eager(eager), read, probes, TOLERANCE))

    if calibrate:
        seen = [_prepared(p, webcam=i % 3 == 0) for i, p in enumerate(calibration)]
        if network.room:
            seen = [_before_a_room(x, seen[i - 1], i) for i, x in enumerate(seen)]
        int8 = quantise(graph, seen)
        if even:  # rounding moves what is shown and what is lost apart again
            shift = excess(_logits_of_alpha(runner(int8)), pairs)
            log.info("In int8 it goes down by %.2f more", shift)
            lower(int8, shift)
        small = stem.with_name(stem.name + "-int8.xml")
        before, after = _export_int8(int8, runner(halved), small, check)
        exported[1] = _with_iou(exported[1], before)
        result = _compared(small, runner(halved), runner(ov.Core().read_model(small)), probes, 1.0)
        exported.append(_with_iou(result, after))
    return exported


def _export_weights(
    network: BiSeNet, stem: Path, probes: list[NDArray[np.float32]], *, compact: bool
) -> Exported:
    weights = stem.with_name(stem.name + ".safetensors")
    note = f"BiSeNet width {network.width:g} for one person class"
    _write_weights(network, weights, note=note, compact=compact)
    eager, reread = Matting(network).eval(), Matting(load_weights(weights)).eval()
    # Rounding kernels to int8 moves single pixels of an outline: its mean is what is held.
    most = 1.0 if compact else TOLERANCE
    exported = _compared(weights, _eager(eager), _eager(reread), probes, most)
    if compact and exported.mean > TOLERANCE / 2:
        weights.unlink()
        raise ExportError(
            f"{weights.name}: int8 kernels move alpha by {exported.mean:.4f} on average, "
            f"at most {TOLERANCE / 2} is allowed; it was not written",
            hint="Export without --compact.",
        )
    return exported


def _export_int8(int8: Any, halved: Run, small: Path, check: list[Pair]) -> tuple[float, float]:
    """Write the int8 graph where it loses little; return person IoU of float16 and of int8."""
    before, after = person_iou(halved, check), person_iou(runner(int8), check)
    lost = 100 * (before - after)
    log.info("Person IoU on %d pictures: fp32 %.4f, int8 %.4f", len(check), before, after)
    if lost > INT8_LOSS:
        raise ExportError(
            f"{small.name}: int8 loses {lost:.2f} points of person IoU on {len(check)} "
            f"pictures ({before:.4f} to {after:.4f}), at most {INT8_LOSS} are allowed; "
            "it was not written",
            hint="Ship fp32 alone, or calibrate on more and more varied pictures.",
        )
    _write_graph(int8, small)
    return before, after


def excess(run: Run, pairs: list[Pair]) -> float:
    """By how many logits to go down until no more of the room leaks than of the person is cut.

    A network that learns to be right in most pixels shows more of the room than it loses of the
    person, and the room is what must not be shown. At most `CAUTION`; 0 where the person suffers
    more already.

    Shapes:
        run: from (1, 3, h, w) float32, normalised, to logits (h, w) float32
    """
    seen = []
    for pair in pairs:
        x = _prepared(pair)
        truth = cv2.resize(read_matte(pair.matte), x.shape[:1:-1], interpolation=cv2.INTER_AREA)
        logits = run(x)
        seen.append((np.sort(logits[truth < ROOM]), np.sort(logits[truth > PERSON])))

    def more_leaks(shift: float) -> bool:
        rooms = [1 - np.searchsorted(r, shift) / len(r) for r, _ in seen if len(r)]
        people = [np.searchsorted(p, shift) / len(p) for _, p in seen if len(p)]
        return bool(np.mean(rooms) > np.mean(people))

    low, high = 0.0, CAUTION
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if more_leaks(middle) else (low, middle)
    return low


def lower(graph: Any, shift: float) -> None:
    """Take `shift` from the logits of a graph that ends in their sigmoid, in place."""
    from openvino import opset13 as ops

    entry = graph.outputs[0].get_node().input(0).get_source_output().get_node().input(0)
    shifted = ops.subtract(entry.get_source_output(), ops.constant(np.float32(shift)))
    entry.replace_source_output(shifted.output(0))


def _logits(network: BiSeNet) -> Run:
    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(widened(x, network.inputs)))[0, 0].numpy())

    return run


def _logits_of_alpha(alpha_of: Any) -> Run:
    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        alpha = np.clip(alpha_of(x), 1e-6, 1 - 1e-6).reshape(x.shape[2:])
        return np.asarray(np.log(alpha / (1 - alpha)), np.float32)

    return run


def to_openvino(eager: nn.Module, inputs: int = 3) -> Any:
    """Convert to an OpenVINO model: "x" (1, inputs, H, W) to "alpha" (1, 1, H, W), any H and W."""
    import openvino as ov

    shape = ov.PartialShape([1, inputs, -1, -1])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # OpenVINO traces, which newer releases of torch lament
        graph = ov.convert_model(
            eager, example_input=torch.zeros(1, inputs, 160, 288), input=[shape]
        )
    graph.inputs[0].get_tensor().set_names({"x"})
    graph.outputs[0].get_tensor().set_names({"alpha"})
    return graph


def _write_onnx(eager: nn.Module, path: Path, inputs: int) -> None:
    axes = {2: "height", 3: "width"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                eager,
                (torch.zeros(1, inputs, 160, 288),),
                str(path),
                input_names=["x"],
                output_names=["alpha"],
                dynamic_axes={"x": axes, "alpha": axes},
                opset_version=17,
                dynamo=False,  # needs no package beside torch
            )
    except OSError as error:
        raise ExportError(
            f"{path}: cannot be written: {error.strerror}", hint="Choose another folder with -o."
        ) from error


def quantise(graph: Any, pictures: list[NDArray[np.float32]]) -> Any:
    """Quantise to int8 after training, on pictures prepared for the network.

    From NNCF's post-training quantisation (https://github.com/openvinotoolkit/nncf).
    """
    try:
        import nncf
    except ImportError as error:
        raise UsageError(
            "NNCF, which quantises, is not installed",
            hint="Run pip install nncf, or drop --calibrate to export fp32 alone.",
        ) from error
    # The last step only enlarges logits: nothing is won there, and their outline would get steps.
    enlarging = [op for op in graph.get_ops() if "BackpropData" in op.get_type_name()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nncf.quantize(
            graph,
            nncf.Dataset(pictures, lambda x: x),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(pictures),
            fast_bias_correction=True,
            ignored_scope=nncf.IgnoredScope(names=[op.get_friendly_name() for op in enlarging]),
        )


def runner(graph: Any) -> Any:
    """Compile on the CPU in float32 and return a function from a picture to its alpha."""
    import openvino as ov

    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = ov.Core().compile_model(graph, "CPU", options)
    request = compiled.create_infer_request()
    inputs = graph.inputs[0].partial_shape[1].get_length()

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        request.infer([widened(x, inputs)])
        return np.array(request.get_output_tensor(0).data, np.float32)

    return run


def person_iou(run: Any, pairs: list[Pair]) -> float:
    """Person IoU over all pixels of `pairs`, each at the network's size for it."""
    figures = Figures()
    for pair in pairs:
        truth = read_matte(pair.matte)
        alpha = run(_prepared(pair))[0, 0]
        alpha = cv2.resize(alpha, truth.shape[::-1], interpolation=cv2.INTER_LINEAR)
        figures.add(alpha, truth)
    return figures.summary()["person_iou"]


def normalise(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """Resize an RGB image and normalise it for the network.

    Shapes:
        image: (H, W, 3) uint8 RGB
        returns: (1, 3, height, width) float32
    """
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    x = (small.astype(np.float32) / 255 - MEAN) / STD
    return np.ascontiguousarray(x.transpose(2, 0, 1)[None], np.float32)


def widened(x: NDArray[np.float32], inputs: int) -> NDArray[np.float32]:
    """Add inputs that tell that nothing is known of the room, up to so many.

    Shapes:
        x: (1, 3, h, w) float32; returns: (1, inputs, h, w) float32
    """
    more = np.zeros((1, inputs - x.shape[1], *x.shape[2:]), np.float32)
    return np.concatenate((x, more), axis=1) if inputs > x.shape[1] else x


def _before_a_room(
    x: NDArray[np.float32], other: NDArray[np.float32], number: int
) -> NDArray[np.float32]:
    """Add what a webcam would tell of a room, for every second picture, of another one's colours.

    Quantisation looks at how large numbers get, and nowhere at what they mean.

    Shapes:
        x, other: (1, 3, h, w) float32, normalised; returns: (1, 7, h, w) float32
    """
    wide = widened(x, 3 + ROOM_INPUTS)
    if number % 2:
        size = x.shape[:1:-1]
        room = cv2.resize(other[0].transpose(1, 2, 0), size).transpose(2, 0, 1)
        noise = np.random.default_rng(number).normal(0, 0.05, x[0].shape)
        rows = x.shape[2] // 3  # above there is nothing but room
        wide[0, 3:6] = ROOM_SCALE * noise
        wide[0, 3:6, rows:] = ROOM_SCALE * (room - x[0])[:, rows:]
        wide[0, 6] = 1
    return wide


def _prepared(pair: Pair, *, webcam: bool = False) -> NDArray[np.float32]:
    """Read a picture at the network's size for it, or at a webcam's shape whatever its own."""
    image = read_image(pair.image)
    if webcam:
        image = _central(image, 16 / 9)
    rows, columns = image.shape[:2]
    (height, width), _ = input_size(rows, columns, AREAS["balanced"])
    return normalise(image, height, width)


def _central(image: NDArray[np.uint8], shape: float) -> NDArray[np.uint8]:
    """Return `image` padded by its mirror image until it has the width-to-height ratio."""
    height, width = image.shape[:2]
    x, y = max(0, round(height * shape) - width), max(0, round(width / shape) - height)
    padded = cv2.copyMakeBorder(
        image, y // 2, y - y // 2, x // 2, x - x // 2, cv2.BORDER_REFLECT_101
    )
    return np.asarray(padded, np.uint8)


def _spread(pairs: list[Pair], count: int) -> list[Pair]:
    """Choose `count` pairs evenly from the whole list."""
    if len(pairs) <= count:
        return pairs
    return [pairs[int(i)] for i in np.linspace(0, len(pairs) - 1, count)]


def _noise() -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 255, (h // 16, w // 16, 3), np.uint8) for h, w in SIZES]
    return [normalise(image, *size) for image, size in zip(coarse, SIZES, strict=True)]


def _eager(module: Matting) -> Any:
    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            wide = torch.from_numpy(widened(x, module.network.inputs))
            return np.asarray(module(wide), np.float32)

    return run


def _compared(
    path: Path, wanted: Any, got: Any, probes: list[NDArray[np.float32]], tolerance: float
) -> Exported:
    apart = [np.abs(wanted(x) - got(x)) for x in probes]
    largest = float(max(a.max() for a in apart))
    mean = float(np.mean([a.mean() for a in apart]))
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    if not largest <= tolerance:
        for file in files:
            file.unlink(missing_ok=True)
        raise ExportError(
            f"{path.name}: alpha differs by {largest:.4f} from the network it came from, "
            f"at most {tolerance:g} is allowed; it was removed",
            hint="Check that the checkpoint holds finite weights of ordinary size.",
        )
    return Exported(path, sum(f.stat().st_size for f in files), largest, mean)


def _with_iou(exported: Exported, iou: float) -> Exported:
    return Exported(exported.path, exported.size, exported.largest, exported.mean, iou)


def _write_weights(network: BiSeNet, path: Path, *, note: str, compact: bool) -> None:
    try:
        save_weights(network, path, note=note, compact=compact)
        path.chmod(0o644)
    except OSError as error:
        raise ExportError(
            f"{path}: cannot be written: {error.strerror}", hint="Choose another folder with -o."
        ) from error


def _write_graph(graph: Any, path: Path) -> None:
    import openvino as ov

    try:
        ov.save_model(graph, path, compress_to_fp16=True)
    except RuntimeError as error:
        raise ExportError(
            f"{path}: cannot be written: {str(error).splitlines()[-1]}",
            hint="Choose another folder with -o.",
        ) from error
