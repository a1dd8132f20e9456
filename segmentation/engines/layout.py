"""Layouts of person models: the form of their input, and the person's place in their output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from segmentation.constants import ROOM_INPUTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Layout:
    """A model's input and output conventions.

    The network sees `(rgb - mean) / std` with rgb in 0..1, planes in the order `order`.
    """

    name: str  # "bisenet", "mediapipe", "sinet", "pphumanseg", "rvm"
    mean: tuple[float, float, float] = IMAGENET_MEAN  # in the order R, G, B
    std: tuple[float, float, float] = IMAGENET_STD
    order: Literal["rgb", "bgr"] = "rgb"
    channels_last: bool = False
    size: tuple[int, int] | None = None  # (h, w) where fixed; None: any multiple of 32
    channel: int = 0  # of the output: the person
    logits: bool = False  # the output still needs a sigmoid
    room: bool = (
        False  # it has inputs for the room that is known: `segmentation.constants.ROOM_INPUTS`
    )

    @property
    def inputs(self) -> int:
        """Planes of the input."""
        return 3 + ROOM_INPUTS if self.room else 3

    def matrix(self, to_rgb: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return `to_rgb`, rows for R, G and B, in the order of the network's planes."""
        return np.ascontiguousarray(to_rgb[self._rows], np.float32)

    def scale(self) -> NDArray[np.float32]:
        """Return what each plane is multiplied by and what is added then, (3, 2)."""
        mean, std = (np.array(x)[self._rows] for x in (self.mean, self.std))
        return np.ascontiguousarray(np.stack([1 / std, -mean / std], axis=1), np.float32)

    @property
    def _rows(self) -> list[int]:
        return [0, 1, 2] if self.order == "rgb" else [2, 1, 0]


class Engine(Protocol):
    """Runs one model. Opened by `open_engine`, owned by one thread, closed by who opened it."""

    name: str  # "openvino", "cuda"
    device: str  # "CPU", "GPU.0", "NVIDIA T4"
    model: str  # the weights' name, without the directory
    precision: str  # "int8", "fp32", "fp16"
    layout: Layout
    notes: list[str]  # what was left out or mended on the way here, for the status

    def prepare(self, h: int, w: int) -> None:
        """Get ready for inputs of h x w now, rather than when the first one comes."""
        ...

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the person's alpha; the array is overwritten by the next call.

        Shapes:
            x: (1, layout.inputs, h, w) float32, normalised and ordered as `layout` says,
                C-contiguous
            returns: (h, w) float32 in 0..1

        Raises:
            EngineError: the device refused or went away.
        """
        ...

    def reset(self) -> None:
        """Forget what a recurrent model remembers of the frames before."""
        ...

    def wipe(self) -> None:
        """Overwrite what the pictures before left in the device's memory."""
        ...

    def close(self) -> None:
        """Give the device's memory back; the engine cannot be used afterwards."""
        ...


def is_device(name: str) -> bool:
    """True if `name` is that of one of OpenVINO's devices besides the processor: "GPU.0", "NPU"."""
    return name.partition(".")[0] in ("GPU", "NPU")


def weights_dir() -> Path:
    """Where the shipped weights lie."""
    return Path(__file__).resolve().parent.parent / "weights"
