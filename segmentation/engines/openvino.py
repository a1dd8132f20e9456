"""Person models on the CPU through OpenVINO: the shipped BiSeNet, and other people's."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segmentation.engines.layout import Engine, Layout, weights_dir
from segmentation.errors import EngineError, ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# openvino reports every import to an analytics service when this package is there; ours sends
# nothing to anybody.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

log = logging.getLogger(__name__)

SHIPPED = "bisenet-small"
SHIPPED_LARGE = "bisenet-r18"
TRIALS = 12  # timed runs of each precision; the fastest half counts
TRIAL_SIZE = (160, 288)
AFFORDABLE = 0.012  # seconds for the trial picture, above which the large network loses frames
SIZES_KEPT = 4  # compiled graphs: one for each step of the quality ladder, and one to spare
# Mean difference from fp32 above which a precision is broken here. The trial picture is noise, on
# which nothing is sure; how much worse people look was measured when the weights were exported.
SAME = 0.2
# Seconds count this much: a gain of a few percent is noise, and the more exact one is kept.
EXACTNESS = {"fp32": 0.93, "bf16": 0.96, "int8": 1.0}


def open_openvino(
    model: str = "auto",
    *,
    still: bool = False,
    large: bool = False,
    threads: int = 1,
    cache_dir: Path | None = None,
) -> Engine:
    """Open the shipped model in the fastest precision, or the model file `model`.

    `large` takes the full-width network instead of the small one. For stills, where time does not
    matter, it is the mean of both: they err in different places.

    Raises:
        ModelError: the weights are missing, damaged, or not a person model.
        EngineError: OpenVINO does not work on this machine.
    """
    cache = usable(cache_dir)
    if model != "auto":
        return OpenVinoEngine(Path(model), threads=threads, cache_dir=cache)
    wide = weights_dir() / f"{SHIPPED_LARGE}-int8.xml"
    full, small = (weights_dir() / f"{SHIPPED}{tail}.xml" for tail in ("", "-int8"))
    if not full.exists():
        raise ModelError(
            f"the shipped model {full.name} is missing from {full.parent}",
            hint="Install the program again, or set model to the path of a person model.",
        )
    if still and wide.exists():
        return MeanEngine(
            *(OpenVinoEngine(path, threads=threads, cache_dir=cache) for path in (full, wide))
        )
    if large and wide.exists():
        engine = OpenVinoEngine(wide, threads=threads, cache_dir=cache)
        spent = _best_of(engine, _trial_picture())
        if spent <= AFFORDABLE:
            return engine
        engine.close()
        log.info("The large model takes %.0f ms a frame here: the small one it is", 1000 * spent)
    choices = {"fp32": full}
    if has_bfloat16():
        choices["bf16"] = full
    if small.exists():
        choices["int8"] = small
    remembered = cache / "precision.json" if cache else None
    key = _fingerprint(choices, threads)
    precision = _recall(remembered, key)
    if precision not in choices:
        measured = _measured(choices, threads, cache)
        _remember(remembered, key, measured)
        precision = str(measured["precision"])
    return OpenVinoEngine(choices[precision], precision=precision, threads=threads, cache_dir=cache)


class MeanEngine:
    """Several networks of one layout that answer together; owned and closed like one engine."""

    name = "openvino"

    def __init__(self, *engines: OpenVinoEngine) -> None:
        self._engines = engines
        self.device = engines[0].device
        self.model = " + ".join(engine.model for engine in engines)
        self.precision = engines[0].precision
        self.layout = engines[0].layout

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean of what the networks say; see `Engine.infer`."""
        first, *others = self._engines
        total = first.infer(x).copy()
        for engine in others:
            total += engine.infer(x)
        total /= len(self._engines)
        return total

    def prepare(self, h: int, w: int) -> None:
        """Compile every network for inputs of h x w now."""
        for engine in self._engines:
            engine.prepare(h, w)

    def reset(self) -> None:
        """Forget the frames before, in every network."""
        for engine in self._engines:
            engine.reset()

    def wipe(self) -> None:
        """Overwrite what the pictures left in every network."""
        for engine in self._engines:
            engine.wipe()

    def close(self) -> None:
        """Close every network."""
        for engine in self._engines:
            engine.close()


def has_bfloat16() -> bool:
    """True if this processor computes in bfloat16 itself; imitating it is ten times slower."""
    import openvino as ov

    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def usable(cache_dir: Path | None) -> Path | None:
    """Return `cache_dir`, made if missing, or None where nothing can be written there."""
    if cache_dir is None:
        return None
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.info("Nothing is cached: %s: %s", cache_dir, error.strerror)
        return None
    if not os.access(cache_dir, os.W_OK):
        log.info("Nothing is cached: %s cannot be written", cache_dir)
        return None
    return cache_dir


class OpenVinoEngine:
    """One compiled model with its preallocated input. Owned by one thread.

    Raises:
        ModelError: `path` is missing, damaged, or not a person model that is understood.
    """

    name = "openvino"

    def __init__(
        self,
        path: Path,
        *,
        precision: str = "fp32",
        threads: int = 1,
        device: str = "CPU",
        cache_dir: Path | None = None,
    ) -> None:
        import openvino as ov

        self._ov = ov
        core = ov.Core()
        # A file that is mapped and then cut short takes the whole process down (SIGBUS).
        core.set_property({"ENABLE_MMAP": False})
        graph = _read(core, path)
        self.layout = recognise(graph, path)
        self.device = device
        self.model = path.stem
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": max(1, threads),
            "NUM_STREAMS": 1,
        }
        quantised = any(op.get_type_name() == "FakeQuantize" for op in graph.get_ops())
        self.precision = "int8" if quantised else precision
        if device == "CPU":
            # Layers that are not quantised count too: in bfloat16 only where it is native.
            native = self.precision == "bf16" or (self.precision == "int8" and has_bfloat16())
            options["INFERENCE_PRECISION_HINT"] = "bf16" if native else "f32"
        if cache_dir is not None:
            options["CACHE_DIR"] = str(cache_dir / "openvino")
        self._core, self._graph, self._options = core, graph, options
        # A graph of one fixed size runs a quarter faster than one for any size.
        self._sized = self.layout.name != "rvm" and graph.inputs[0].partial_shape.is_dynamic
        self._made: dict[tuple[int, ...], tuple[Any, Any]] = {}
        self._compiled: Any = None
        self._request: Any = None
        if not self._sized:
            self._compiled, self._request = self._compile(graph)
        self._shape: tuple[int, ...] = ()
        self._used: set[tuple[int, ...]] = set()  # shapes of pictures it saw since it was wiped
        self._x: NDArray[np.float32] = np.empty(0, np.float32)
        self._memory: list[NDArray[np.float32]] = []
        if self.layout.channels_last and self._answers_beyond_one():
            self.layout = replace(self.layout, logits=True)

    def prepare(self, h: int, w: int) -> None:
        """Compile for inputs of h x w now, rather than when the first one comes.

        Raises:
            EngineError: OpenVINO does not work on this machine.
        """
        shape = (1, 3, h, w)
        if self._sized and shape not in self._made:
            if len(self._made) == SIZES_KEPT:
                del self._made[next(iter(self._made))]
            graph = self._graph.clone()
            graph.reshape(list(shape))
            self._made[shape] = self._compile(graph)

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the person's alpha; the array is overwritten by the next call.

        Shapes:
            x: (1, 3, h, w) float32, normalised and ordered as `layout` says, C-contiguous
            returns: (h, w) float32 in 0..1

        Raises:
            EngineError: OpenVINO failed.
        """
        if x.shape != self._shape or (not self.layout.channels_last and x is not self._x):
            self._bind(x)
        if self.layout.channels_last:
            np.copyto(self._x, x.transpose(0, 2, 3, 1))
        try:
            self._request.infer()
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO failed on {self.model}: {_first_line(error)}",
                hint='Set model = "auto".',
            ) from error
        if self.layout.name == "rvm":
            return self._recurrent()
        out: NDArray[np.float32] = self._request.get_output_tensor(0).data
        return _person(out, self.layout)

    def reset(self) -> None:
        """Forget what a recurrent model remembers of the frames before."""
        self._shape = ()

    def wipe(self) -> None:
        """Overwrite what the pictures left in the network: it is run on nothing.

        Its layers' memory is OpenVINO's own, and holds the picture in more than one shape.

        Raises:
            EngineError: OpenVINO failed.
        """
        used, self._used = self._used, set()
        for shape in used:
            if self._sized and shape not in self._made:
                continue
            self.reset()
            self.infer(np.zeros(shape, np.float32))
        self.reset()
        self._used = set()
        for memory in (self._x, *self._memory):
            memory.fill(0)

    def close(self) -> None:
        """Give the model's memory back; the engine cannot be used afterwards."""
        self._made.clear()
        del self._request, self._compiled, self._graph

    def _compile(self, graph: Any) -> tuple[Any, Any]:
        try:
            compiled = self._core.compile_model(graph, self.device, self._options)
            return compiled, compiled.create_infer_request()
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO cannot run {self.model} on {self.device}: {_first_line(error)}",
                hint='Set engine = "cpu" and model = "auto".',
            ) from error

    def _answers_beyond_one(self) -> bool:
        """Try the model: some end before the sigmoid, and nothing in the file says so."""
        assert self.layout.size is not None
        h, w = self.layout.size
        x = np.random.default_rng(0).random((1, 3, h, w), np.float32)
        answer = self.infer(x)
        return bool(answer.min() < -0.01 or answer.max() > 1.01)

    def _bind(self, x: NDArray[np.float32]) -> None:
        if self._sized:
            self.prepare(*x.shape[2:])
            self._compiled, self._request = self._made[x.shape]
        self._shape = x.shape
        self._used.add(x.shape)
        self._x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if self.layout.channels_last else x
        tensor = self._ov.Tensor(self._x, shared_memory=True)
        if self.layout.name != "rvm":
            self._request.set_input_tensor(0, tensor)
            return
        self._request.set_tensor("src", tensor)
        self._memory = [np.zeros((1, 1, 1, 1), np.float32) for _ in range(4)]
        for i, memory in enumerate(self._memory):
            self._request.set_tensor(f"r{i + 1}i", self._ov.Tensor(memory, shared_memory=True))
        ratio = np.array([min(1.0, 512 / max(x.shape[2:]))], np.float32)
        self._ratio = ratio
        if any("downsample_ratio" in port.names for port in self._compiled.inputs):
            self._request.set_tensor("downsample_ratio", self._ov.Tensor(ratio, shared_memory=True))

    def _recurrent(self) -> NDArray[np.float32]:
        for i in range(4):
            kept = np.array(self._request.get_tensor(f"r{i + 1}o").data)
            self._memory[i] = kept
            self._request.set_tensor(f"r{i + 1}i", self._ov.Tensor(kept, shared_memory=True))
        alpha: NDArray[np.float32] = self._request.get_tensor("pha").data
        person: NDArray[np.float32] = alpha[0, 0]
        return person


def recognise(graph: Any, path: Path) -> Layout:
    """Tell from a model's inputs and outputs how it wants to be used.

    Raises:
        ModelError: it takes or gives something that no person model known here does.
    """
    inputs = {name: port.partial_shape for port in graph.inputs for name in port.names}
    if {"src", "r1i", "r2i", "r3i", "r4i"} <= inputs.keys():
        if all("pha" not in port.names for port in graph.outputs):
            raise _unfit(graph, path, "it has RVM's inputs but no output named 'pha'")
        return Layout("rvm", mean=(0, 0, 0), std=(1, 1, 1))
    if len(graph.inputs) != 1:
        raise _unfit(graph, path, f"it takes {len(graph.inputs)} inputs")
    given, shape = graph.inputs[0], graph.inputs[0].partial_shape
    result = graph.outputs[0].partial_shape
    if shape.rank.is_dynamic or len(shape) != 4:
        raise _unfit(graph, path, f"its input is {shape}")
    if result.rank.is_dynamic or len(result) != 4:
        raise _unfit(graph, path, f"its output is {result}")
    if "float" not in str(given.element_type) and "f32" not in str(given.element_type):
        raise _unfit(graph, path, f"its input is of type {given.element_type}")
    dims = [None if d.is_dynamic else d.get_length() for d in shape]
    outs = [None if d.is_dynamic else d.get_length() for d in result]
    if dims[0] not in (None, 1):
        raise _unfit(graph, path, f"it takes {dims[0]} pictures at once")
    if dims[3] == 3 and outs[3] in (1, 2):
        if dims[1] is None or dims[2] is None:
            raise _unfit(graph, path, f"its input is {shape}")
        return Layout(
            "mediapipe",
            mean=(0, 0, 0),
            std=(1, 1, 1),
            channels_last=True,
            size=(dims[1], dims[2]),
            channel=outs[3] - 1,
        )
    size = None if dims[2] is None or dims[3] is None else (dims[2], dims[3])
    if dims[1] != 3 or outs[1] not in (1, 2):
        raise _unfit(graph, path, f"its input is {shape} and its output {result}")
    if outs[1] == 1:
        return Layout("bisenet", size=size, logits="logits" in graph.outputs[0].names)
    if "data" in given.names:
        return Layout(
            "sinet",
            mean=(126.91 / 255, 111.25 / 255, 102.89 / 255),
            std=(66.36, 62.82, 62.93),
            order="bgr",
            size=size,
            channel=1,
        )
    return Layout("pphumanseg", (0.5,) * 3, (0.5,) * 3, size=size or (192, 192), channel=1)


def _person(out: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    alpha = out[0, :, :, layout.channel] if layout.channels_last else out[0, layout.channel]
    if layout.logits:
        alpha = 1 / (1 + np.exp(-alpha))
    return alpha


def _read(core: Any, path: Path) -> Any:
    if not path.is_file():
        raise ModelError(
            f"the model {str(path)!r} does not exist",
            hint='Set model = "auto", or give the path of an .xml, .onnx or .tflite file.',
        )
    beside = path.with_suffix(".bin")
    if path.suffix == ".xml" and not beside.is_file():
        raise ModelError(
            f"the model {path.name} lacks its weights {str(beside)!r}",
            hint="Put both files side by side, or install the program again.",
        )
    try:
        return core.read_model(path)
    except RuntimeError as error:
        if "No translator found" in str(error):
            what = f"{path.name} uses an operation that OpenVINO does not know: {_last_line(error)}"
            hint = "Convert the model to ONNX, where it is made of standard operations."
        else:
            what = f"{str(path)!r} is damaged or not a model: {_last_line(error)}"
            hint = 'Set model = "auto", or fetch the file again.'
        raise ModelError(what, hint=hint) from error


def _unfit(graph: Any, path: Path, why: str) -> ModelError:
    return ModelError(
        f"{path.name} is not a person model that is understood: {why}; expected one picture "
        "(1, 3, H, W) or (1, H, W, 3) in and one or two planes of the same layout out",
        hint='Set model = "auto", or use a BiSeNet, MediaPipe, SINet, PP-HumanSeg or RVM model.',
    )


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _fingerprint(choices: dict[str, Path], threads: int) -> str:
    """Name this machine, these weights and this OpenVINO: a measurement holds for all of them."""
    import openvino as ov

    parts = [ov.__version__, str(threads), _processor()]
    for name, path in choices.items():
        weights = path.with_suffix(".bin")
        seen = weights.stat() if weights.exists() else None
        parts.append(f"{name} {seen.st_size} {seen.st_mtime_ns}" if seen else name)
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _recall(path: Path | None, key: str) -> str | None:
    if path is None:
        return None
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    choice = known.get("precision") if isinstance(known, dict) and known.get("key") == key else None
    return choice if isinstance(choice, str) else None


def _measured(choices: dict[str, Path], threads: int, cache: Path | None) -> dict[str, object]:
    """Try every precision, one after the other, and say which is fastest and agrees with fp32."""
    x = _trial_picture()
    spent: dict[str, float] = {}
    apart: dict[str, float] = {}
    exact = None
    for name, path in choices.items():
        engine = OpenVinoEngine(path, precision=name, threads=threads, cache_dir=cache)
        answer = engine.infer(x).copy()
        exact = answer if exact is None else exact
        apart[name] = float(np.abs(answer - exact).mean())
        spent[name] = _best_of(engine, x)
        engine.close()
    agreeing = [name for name in choices if apart[name] < SAME]
    choice = min(agreeing, key=lambda name: spent[name] * EXACTNESS[name])
    figures = ", ".join(f"{name} {spent[name] * 1000:.1f} ms" for name in choices)
    log.info("Model in %s: %s a frame", choice, figures)
    return {"precision": choice, "seconds": spent, "difference": apart}


def _remember(path: Path | None, key: str, measured: dict[str, object]) -> None:
    if path is None:
        return
    try:
        path.write_text(json.dumps({"key": key, **measured}, indent=2))
    except OSError as error:
        log.info("The choice of precision is not remembered: %s", error)


def _best_of(engine: OpenVinoEngine, x: NDArray[np.float32]) -> float:
    """CPU seconds of one run: mean of the faster half of `TRIALS`."""
    spent = []
    for _ in range(TRIALS):
        start = time.process_time()
        engine.infer(x)
        spent.append(time.process_time() - start)
    return float(np.mean(sorted(spent)[: TRIALS // 2]))


def _trial_picture() -> NDArray[np.float32]:
    """A smooth random picture, normalised: both precisions find something to disagree on."""
    rng = np.random.default_rng(0)
    h, w = TRIAL_SIZE
    coarse = rng.normal(0, 1, (1, 3, h // 16, w // 16)).astype(np.float32)
    return np.ascontiguousarray(coarse.repeat(16, axis=2).repeat(16, axis=3))
