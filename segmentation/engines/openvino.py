"""Person models on the CPU through OpenVINO: the shipped BiSeNet, and other people's."""

from __future__ import annotations

import hashlib
import io
import platform
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segmentation import store
from segmentation.constants import ROOM_INPUTS
from segmentation.engines import answers, tails
from segmentation.engines.layout import Layout
from segmentation.errors import EngineError, ModelError, UntrustedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# openvino reports every import to an analytics service when this package is there; ours sends
# nothing to anybody.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

BLOBS_KEPT = 12  # compiled graphs on disk, of every model and size
SIZES_KEPT = 4  # compiled graphs: one for each step of the quality ladder, and one to spare


def has_bfloat16() -> bool:
    """True if this processor computes in bfloat16 itself; imitating it is ten times slower."""
    import openvino as ov

    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoEngine:
    """One compiled model with its preallocated input. Owned by one thread.

    Every graph it compiles is asked the pictures of `answers` before it is used. Without `examine`
    it is not: that is for measuring a model, never for showing somebody.

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
        examine: bool = True,
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
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        quantised = any(op.get_type_name() == "FakeQuantize" for op in graph.get_ops())
        self.precision = "int8" if quantised else precision
        if device == "CPU":  # others refuse some of these
            options |= {"INFERENCE_NUM_THREADS": max(1, threads), "NUM_STREAMS": 1}
            # Layers that are not quantised count too: in bfloat16 only where it is native.
            native = self.precision == "bf16" or (self.precision == "int8" and has_bfloat16())
            options["INFERENCE_PRECISION_HINT"] = "bf16" if native else "f32"
        self._store = store.Store(_graphs(cache_dir), "compiled networks")
        self._digest = _digest(path) if self._store.folder is not None else ""
        self._tail = tails.cut(graph) if device == "CPU" else None
        self._core, self._graph, self._options = core, graph, options
        self._examine = examine
        self.notes: list[str] = []
        # A graph of one fixed size runs a quarter faster than one for any size.
        self._sized = self.layout.name != "rvm" and graph.inputs[0].partial_shape.is_dynamic
        # Compiled, and asked; by the input's shape, or one for all.
        self._made: dict[tuple[int, ...], tuple[Any, Any]] = {}
        self._compiled: Any = None
        self._request: Any = None
        self._shape: tuple[int, ...] = ()
        self._used: set[tuple[int, ...]] = set()  # shapes of pictures it saw since it was wiped
        self._x: NDArray[np.float32] = np.empty(0, np.float32)
        self._memory: list[NDArray[np.float32]] = []

    def prepare(self, h: int, w: int) -> None:
        """Compile for inputs of h x w now, rather than when the first one comes, and ask it.

        Raises:
            UntrustedError: it answers wrongly.
            EngineError: OpenVINO does not work on this machine.
        """
        key = (1, self.layout.inputs, h, w) if self._sized else ()
        if key in self._made:
            return
        if len(self._made) == SIZES_KEPT:
            del self._made[next(iter(self._made))]
        graph = self._graph
        if self._sized:
            graph = graph.clone()
            graph.reshape(list(key))
        self._shape = ()
        name = self._name(graph, (h, w))
        kept = self._kept(name)
        self._made[key] = kept or self._compile(graph)
        try:
            if self.layout.channels_last and not self.layout.logits:
                self.layout = replace(self.layout, logits=self._answers_beyond_one())
            if self._examine and not self._right(h, w, may_be_damaged=kept is not None):
                self._store.forget(name, "it answers wrongly")
                kept, self._made[key] = None, self._compile(graph)
                self._right(h, w)
            if kept is None and self._store.folder is not None:
                blob = self._made[key][0].export_model().getvalue()
                self._store.put(name, blob, alike="*.blob", most=BLOBS_KEPT)
        except Exception:
            del self._made[key]
            raise
        finally:
            self._shape = ()

    def _right(self, h: int, w: int, *, may_be_damaged: bool = False) -> bool:
        """True if the graph for h x w knows the person and the room.

        Raises:
            UntrustedError: it does not, and nothing else can be the reason.
        """
        self._shape = ()
        try:
            answers.examine(self, h, w)
        except (UntrustedError, EngineError):
            if may_be_damaged:
                return False
            raise
        return True

    def _name(self, graph: Any, size: tuple[int, int]) -> str:
        """Name the graph and everything that what is compiled of it depends on."""
        parts = (
            self._ov.__version__, self.device, processor(), self._digest,
            [str(port.partial_shape) for port in (*graph.inputs, *graph.outputs)],
            sorted(self._options.items()),
        )  # fmt: skip
        key = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
        return f"{self.model[:40]}-{size[1]}x{size[0]}-{key}.blob"

    def _kept(self, name: str) -> tuple[Any, Any] | None:
        """Return what was compiled before, or None."""
        blob = self._store.get(name)
        if blob is None:
            return None
        try:
            compiled = self._core.import_model(io.BytesIO(blob), self.device, self._options)
            return compiled, compiled.create_infer_request()
        except RuntimeError as error:
            self._store.forget(name, _first_line(error))
            return None

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the person's alpha; the array is overwritten by the next call.

        Shapes:
            x: (1, layout.inputs, h, w) float32, normalised and ordered as `layout` says,
                C-contiguous
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
        if self._tail is not None:
            return self._tail(out)
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
        if self._tail is not None:
            self._tail.wipe()

    def close(self) -> None:
        """Give the model's memory back; the engine cannot be used afterwards."""
        self._made.clear()
        del self._request, self._compiled, self._graph, self._core

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
        x = np.random.default_rng(0).random((1, self.layout.inputs, h, w), np.float32)
        answer = self.infer(x)
        return bool(answer.min() < -0.01 or answer.max() > 1.01)

    def _bind(self, x: NDArray[np.float32]) -> None:
        self.prepare(*x.shape[2:])
        self._compiled, self._request = self._made[x.shape if self._sized else ()]
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


def processor() -> str:
    """Name this machine's processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _graphs(cache_dir: Path | None) -> Path | None:
    return None if cache_dir is None else store.private([cache_dir / "openvino"])


def _digest(path: Path) -> str:
    """Return the checksum of a model's files."""
    found = hashlib.sha256()
    for part in (path, path.with_suffix(".bin") if path.suffix == ".xml" else path):
        found.update(part.read_bytes())
    return found.hexdigest()


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
    if dims[1] == 3 + ROOM_INPUTS and outs[1] == 1:
        return Layout("bisenet", size=size, room=True)
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
