"""Models under one interface: from a picture to its alpha."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from segmentation.engines.openvino import OpenVinoEngine
from segmentation.errors import SegmentationError
from segmentation.governor import Level
from segmentation.planes import Planes
from segmentation.segmenter import Segmenter
from segmentation.sizes import AREAS, input_size
from train.data.datasets import Alpha, Image
from train.errors import UsageError
from train.weights.export import widened

WAYS = ("network", "still", "live", "unlearnt")


class Subject(Protocol):
    """A way to get mattes from pictures, under evaluation."""

    name: str

    def alpha(self, image: Image) -> Alpha:
        """Return the alpha of `image`, an (H, W, 3) uint8 RGB, as (H, W) float32."""
        ...

    def close(self) -> None:
        """Give its memory back."""
        ...


class Network:
    """A model alone: the picture resized to its input, its output resized back.

    A model of fixed size sees the whole picture stretched to it, which is how they were trained;
    one of free size sees the picture in its own shape, at `quality`'s number of pixels.
    """

    def __init__(self, path: Path, *, quality: str = "balanced") -> None:
        self._engine = OpenVinoEngine(path, threads=1, examine=False)
        self.name = path.stem
        self.seconds: list[float] = []
        self._area = AREAS[quality]

    def alpha(self, image: Image) -> Alpha:
        """Return the matte of one picture."""
        layout = self._engine.layout
        rows, columns = image.shape[:2]
        height, width = layout.size or input_size(rows, columns, self._area)[0]
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        x = (small.astype(np.float32) / 255 - layout.mean) / layout.std
        x = x[..., ::-1] if layout.order == "bgr" else x
        x = widened(np.ascontiguousarray(x.transpose(2, 0, 1)[None], np.float32), layout.inputs)
        started = time.process_time()
        out = self._engine.infer(x)
        self.seconds.append(time.process_time() - started)
        size = (image.shape[1], image.shape[0])
        return np.asarray(cv2.resize(np.array(out), size, interpolation=cv2.INTER_LINEAR))

    def close(self) -> None:
        """Give the model's memory back."""
        self._engine.close()


class Program:
    """The program's own mattes: network, people, edges; and smoothing where it is a clip.

    Live, it learns the room behind; `unlearnt` does not.
    """

    def __init__(
        self,
        path: Path,
        way: str,
        *,
        quality: str = "balanced",
        fps: float = 30.0,
        smoothing: float = 0.6,
        every: int = 0,
    ) -> None:
        self._segmenter = Segmenter(
            str(path), quality=quality, smoothing=smoothing, still=way == "still", examine=False
        )
        self._segmenter.learns = way == "live"
        if every:  # frames to one look of the network, whatever the quality has
            self._segmenter.level = Level(quality, every, 1.0)
        self.name = f"{path.stem} ({way})"
        self._interval = 1 / fps
        self._seq = 0

    def alpha(self, image: Image) -> Alpha:
        """Return the matte of the next picture, at full size as the compositor computes it."""
        height, width = image.shape[:2]
        even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        y, u, v = planes(even)
        matte = self._segmenter.matte(
            Planes(y, u, v), seq=self._seq, pts=self._seq * self._interval
        )
        self._seq += 1
        size = (y.shape[1], y.shape[0])
        a = cv2.resize(matte.a, size, interpolation=cv2.INTER_LINEAR)
        b = cv2.resize(matte.b, size, interpolation=cv2.INTER_LINEAR)
        alpha = np.clip(a * (y.astype(np.float32) / np.float32(255)) + b, 0, 1)
        return np.ascontiguousarray(alpha[:height, :width], np.float32)

    def alone(self) -> None:
        """Take what the next two seconds show for the room."""
        self._segmenter.tell_room("learn")

    def close(self) -> None:
        """Give the engine back."""
        self._segmenter.close()


def open_subject(path: Path, way: str, *, quality: str = "balanced", fps: float = 30.0) -> Subject:
    """Open a model in one of `WAYS`.

    Raises:
        UsageError: the model cannot be used, or the way is unknown.
    """
    if way not in WAYS:
        raise UsageError(f"way is {way!r}, expected one of {', '.join(WAYS)}", hint="Drop --way.")
    try:
        if way == "network":
            return Network(path, quality=quality)
        return Program(path, way, quality=quality, fps=fps)
    except SegmentationError as error:
        raise UsageError(error.message, hint="Give an .xml, .onnx or .tflite file.") from error


def planes(image: Image) -> tuple[Image, Image, Image]:
    """Split an even-sized RGB image into Y, U and V, BT.601 limited range, 4:2:0.

    Shapes:
        image: (H, W, 3) uint8 RGB
        returns: (H, W), (H/2, W/2), (H/2, W/2) uint8
    """
    height, width = image.shape[:2]
    stacked = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420).ravel()
    luma, chroma = height * width, height * width // 4
    shape = (height // 2, width // 2)
    return (
        stacked[:luma].reshape(height, width),
        stacked[luma : luma + chroma].reshape(shape),
        stacked[luma + chroma :].reshape(shape),
    )
