"""The network on an NVIDIA GPU, and what everything that runs there begins with."""

from __future__ import annotations

import contextlib
import ctypes
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import nn

from segmentation.bisenet import BiSeNet
from segmentation.engines import answers, networks, nvidia
from segmentation.engines.layout import Layout, weights_dir
from segmentation.engines.weights_file import load_weights
from segmentation.errors import EngineError, ModelError, SegmentationError

if TYPE_CHECKING:
    from numpy.typing import NDArray


log = logging.getLogger(__name__)

SHIPPED: Final = "bisenet-r18"
MEMORY: Final = 400 << 20  # bytes of the GPU's memory that are ours at most
STACK_LIMIT: Final = 0  # CU_LIMIT_STACK_SIZE
STACK: Final = 128  # bytes of stack of each of its threads, to begin with
PRECISIONS: Final = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


class CudaEngine:
    """The network alone on the GPU, for `Segmenter`: stills, and everything that needs the host.

    Raises:
        ModelError: the weights are missing, damaged, or no BiSeNet.
        EngineError: the GPU cannot be used.
    """

    name = "cuda"

    def __init__(
        self,
        model: str = "auto",
        *,
        device: str = "cuda",
        precision: str = "",
        examine: bool = True,
    ) -> None:
        self.notes: list[str] = []
        self._examine = examine
        self._ready: set[tuple[int, ...]] = set()  # sizes it was asked at
        self._device = torch.device(device)
        self.precision = precision or ("fp16" if self._device.type == "cuda" else "fp32")
        self._dtype = PRECISIONS[self.precision]
        self.model = weights_path(model).stem
        weights = read_weights(weights_path(model))
        self.layout = Layout("bisenet", room=weights.room)
        with as_engine_error("cannot be used"):
            self.device = open_device(self._device)
            self._used: set[tuple[int, ...]] = set()  # shapes of pictures since it was wiped
            self._network: nn.Module | None = networks.placed(weights, self._device, self._dtype)

    def prepare(self, h: int, w: int) -> None:
        """Ask it at h x w, where cuDNN looks for its fastest kernels.

        Raises:
            UntrustedError: it answers wrongly.
        """
        if (h, w) in self._ready:
            return
        self._ready.add((h, w))  # so that it answers
        try:
            if self._examine:
                answers.examine(self, h, w)
            else:
                self.infer(np.zeros((1, self.layout.inputs, h, w), np.float32))
        except Exception:
            self._ready.discard((h, w))
            raise

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the person's alpha; see `Engine.infer`."""
        if self._network is None:
            raise EngineError("the engine is closed", hint="Open another.")
        if x.shape[2:] not in self._ready:
            self.prepare(*x.shape[2:])
        self._used.add(x.shape)
        with as_engine_error("failed"), torch.inference_mode():
            there = torch.from_numpy(x).to(self._device)
            there = there.to(self._dtype, memory_format=torch.channels_last)
            alpha: NDArray[np.float32] = (
                torch.sigmoid(self._network(there)[0, 0].float()).cpu().numpy()
            )
        return alpha

    def reset(self) -> None:
        """Nothing is remembered."""

    def wipe(self) -> None:
        """Run on nothing: the same memory is taken again, and overwritten."""
        used, self._used = self._used, set()
        for shape in used:
            self.infer(np.zeros(shape, np.float32))
        self._used = set()

    def close(self) -> None:
        """Give the GPU's memory back."""
        self._network = None
        if self._device.type == "cuda":
            with contextlib.suppress(Exception):
                torch.cuda.empty_cache()


def weights_path(model: str) -> Path:
    """Return the file that `model` names: "auto" is the shipped network at full width.

    Raises:
        ModelError: it is a model that only the CPU engine reads.
    """
    if model == "auto":
        return weights_dir() / f"{SHIPPED}.safetensors"
    path = Path(model)
    if path.suffix != ".safetensors":
        raise ModelError(
            f"{path.name} is no .safetensors file, and the GPU runs nothing else",
            hint='Set engine = "cpu", or model = "auto".',
        )
    return path


def read_weights(path: Path) -> BiSeNet:
    """Return the network in `path`, on the CPU, in float32.

    Raises:
        ModelError: missing, damaged, or no BiSeNet.
    """
    if not path.is_file():
        raise ModelError(
            f"the weights {path.name} are missing from {path.parent}",
            hint='Install the program again, or set engine = "cpu".',
        )
    try:
        return load_weights(path)
    except ValueError as error:
        raise ModelError(str(error), hint='Set model = "auto", or fetch the file again.') from error


def open_device(device: torch.device) -> str:
    """Make the GPU ready, its memory bounded, and return its name.

    Raises:
        RuntimeError: torch cannot use it.
    """
    if device.type != "cuda":
        return device.type.upper()
    torch.cuda.init()  # type: ignore[no-untyped-call]
    index = torch.cuda.current_device() if device.index is None else device.index
    torch.cuda.set_device(index)
    _small_stack()
    properties = torch.cuda.get_device_properties(index)
    torch.cuda.set_per_process_memory_fraction(min(1.0, MEMORY / properties.total_memory), index)
    torch.backends.cudnn.benchmark = True
    # float32 is what half precision is compared with: not in TensorFloat-32, which is no better.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return str(properties.name)


def _small_stack() -> None:
    """Have the driver reserve less for the stacks of all threads that the GPU can hold at once.

    The 1,024 bytes it begins with are 264 MB on a large card; a kernel that needs more gets it.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(nvidia.DRIVER).cuCtxSetLimit(STACK_LIMIT, ctypes.c_size_t(STACK))


@contextlib.contextmanager
def as_engine_error(what: str) -> Iterator[None]:
    """Turn whatever torch, a driver or a compiler raises into the engine's own error."""
    try:
        yield
    except SegmentationError:
        raise
    except Exception as error:
        raise engine_error(error, what) from error


def engine_error(error: Exception, what: str) -> SegmentationError:
    """Return `error` in words about the GPU, which `what`; one of ours stays as it is."""
    if isinstance(error, SegmentationError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return EngineError(
            "the GPU's memory is full", hint='Close what uses it, or set engine = "cpu".'
        )
    return EngineError(f"the GPU {what}: {first_line(error)}", hint='Set engine = "cpu".')


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type's name where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
