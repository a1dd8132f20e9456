"""Small clips made on the spot."""

from __future__ import annotations

import contextlib
from fractions import Fraction
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


def make_sounding_clip(
    path: Path,
    seconds: float = 3.0,
    *,
    codec: str = "aac",
    picture_at: float = 0.0,
    sound_at: float = 0.0,
    sound_seconds: float | None = None,
    tracks: int = 1,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a clip of 64x48 at 30 a second with stereo sound, each beginning at its own time."""
    rate = 48_000
    packets = []
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 30)
        sounds = [container.add_stream(codec, rate=rate, layout="stereo") for _ in range(tracks)]
        container.metadata.update(title="hello", creation_time="2020-01-02T03:04:05Z")
        container.metadata["location"] = "+48.1-016.2/"
        for i in range(round(seconds * 30)):
            picture = av.VideoFrame.from_ndarray(
                np.full((72, 64), 20 + i % 200, np.uint8), "yuv420p"
            )
            picture.pts, picture.time_base = i + round(picture_at * 30), Fraction(1, 30)
            packets += video.encode(picture)
        packets += video.encode(None)
        for number, sound in enumerate(sounds):
            sound.metadata["language"] = ("deu", "eng")[number]
            for i in range(round((sound_seconds or seconds) * rate / 960)):
                wave = np.sin(np.arange(i * 960, (i + 1) * 960) * 0.05 * (number + 1)) * 8000
                frame = av.AudioFrame.from_ndarray(
                    np.repeat(wave.astype(np.int16), 2)[None], format="s16", layout="stereo"
                )
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = i * 960 + round(sound_at * rate)
                packets += sound.encode(frame)
            packets += sound.encode(None)
        for packet in sorted(packets, key=lambda p: float(p.dts * p.time_base)):
            container.mux(packet)
    return path


def playable(path: Path) -> int:
    """How many pictures of a clip can be shown, up to the first that cannot; 0 if none."""
    shown = 0
    with contextlib.suppress(av.FFmpegError, IndexError), av.open(str(path)) as container:
        for _ in container.decode(video=0):
            shown += 1
    return shown
