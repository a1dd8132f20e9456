"""Make the shipped photographs from Debian's packages: `python docs/artwork/photographs.py FOLDER`.

FOLDER holds the packages, unpacked with `dpkg -x`, one folder each by the package's name, and the
rendered rooms as `rooms/NAME.png`. Each picture is cut to 16:9, softened as a lens would where it
has detail behind a head, and written as JPEG. Author, source and licence of each are in
`vcam/assets/backgrounds/pictures.toml`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image

SIZE: Final = (1920, 1080)
QUALITY: Final = 82
TARGET: Final = Path(__file__).resolve().parents[2] / "vcam" / "assets" / "backgrounds"
PLASMA: Final = "plasma-workspace-wallpapers/usr/share/wallpapers"
LOMIRI: Final = "lomiri-wallpapers-16.04/usr/share/backgrounds"
MATE: Final = "mate-backgrounds/usr/share/backgrounds/mate"


@dataclass(frozen=True)
class Source:
    """Where a picture comes from and how it is cut: shares of the room there is to shift it."""

    path: str
    soft: float = 0.0  # sigma of the blur, in thousandths of the width
    x: float = 0.5
    y: float = 0.5
    zoom: float = 1.0
    gain: float = 1.0
    saturation: float = 1.0


SOURCES: Final = {
    "forest": Source(f"{PLASMA}/Path/contents/images/2560x1600.jpg", soft=2.2, gain=1.15),
    "dusk": Source(f"{PLASMA}/summer_1am/contents/images/2560x1600.jpg", soft=0.8),
    "mist": Source(f"{PLASMA}/DarkestHour/contents/images/2560x1600.jpg", soft=0.6, gain=1.3),
    "jetty": Source(f"{PLASMA}/ColdRipple/contents/images/2560x1600.jpg", soft=1.8),
    "harbour": Source(f"{PLASMA}/EveningGlow/contents/images/2560x1600.jpg", soft=3.2),
    "pastel": Source(f"{PLASMA}/PastelHills/contents/images/3200x2000.jpg", soft=3.0),
    "silk": Source(f"{PLASMA}/Kokkini/contents/images/3840x2160.png", soft=3.0),
    "coast": Source(f"{MATE}/nature/Dune.jpg", soft=2.2),
    "leaf": Source(f"{MATE}/nature/Blinds.jpg", soft=6.5, saturation=0.7, gain=0.8),
    "ridge": Source(f"{LOMIRI}/aitzgorri_by_Aitzol_Berasategi.jpg", soft=2.4, y=0.45),
    "meadow": Source(f"{LOMIRI}/seeding_by_Clements_Engelhardt.jpg", soft=2.4),
    **{name: Source(f"rooms/{name}.png")
       for name in ("living", "loft", "study", "alcove", "evening", "kitchen", "office")},
}  # fmt: skip


def made(source: Source, folder: Path) -> Image.Image:
    """The picture, cut, softened and at its size."""
    image = Image.open(folder / source.path).convert("RGB")
    scale = max(SIZE[0] / image.width, SIZE[1] / image.height) * source.zoom
    wide, high = round(image.width * scale), round(image.height * scale)
    image = image.resize((max(wide, SIZE[0]), max(high, SIZE[1])), Image.Resampling.LANCZOS)
    left = round((image.width - SIZE[0]) * source.x)
    top = round((image.height - SIZE[1]) * source.y)
    pixels = np.asarray(image.crop((left, top, left + SIZE[0], top + SIZE[1])), np.float32) / 255
    light = pixels**2.2  # a lens adds light, not numbers of it
    if source.soft:
        light = cv2.GaussianBlur(light, (0, 0), source.soft * SIZE[0] / 1000)
    grey = light.mean(axis=2, keepdims=True)
    light = np.clip((grey + (light - grey) * source.saturation) * source.gain, 0, 1)
    grain = np.random.default_rng(5).normal(0, 0.8, (SIZE[1], SIZE[0], 1))
    shown = np.clip(light ** (1 / 2.2) * 255 + grain + 0.5, 0, 255)
    return Image.fromarray(shown.astype(np.uint8))


if __name__ == "__main__":
    folder, wanted = Path(sys.argv[1]), sys.argv[2:] or list(SOURCES)
    TARGET.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        if not (folder / SOURCES[name].path).exists():
            print(f"{SOURCES[name].path} is not there")
            continue
        target = TARGET / f"{name}.jpg"
        made(SOURCES[name], folder).save(
            target, quality=QUALITY, optimize=True, progressive=True, subsampling=2
        )
        print(name, target.stat().st_size // 1024, "KiB")
