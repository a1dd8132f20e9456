"""Small clips made on the spot."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def make_clip(
    path: Path,
    frames: int = 30,
    size: tuple[int, int] = (160, 90),
    fps: int = 30,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
) -> Path:
    """Write a clip whose luma grows by 5 a frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        for i in range(frames):
            image = np.full((size[1], size[0], 3), 20 + (i * 5) % 200, np.uint8)
            picture = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=pixels)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path
