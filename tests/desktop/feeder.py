"""A daemon that is nothing but its outlet: shows a colour and a time code until it is ended.

    python tests/desktop/feeder.py WIDTH HEIGHT FPS Y U V

Says "ready" once its first composite is out.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from tests.desktop import reader
from vcam.compose.card import Card
from vcam.frame import SafeFrame
from vcam.sinks import open_sinks
from vcam.stats import Stats


def main() -> None:
    width, height, fps, *colour = map(int, sys.argv[1:7])
    data = np.empty((height * 3 // 2, width), np.uint8)
    flat, area = data.reshape(-1), width * height
    flat[:area], flat[area : area * 5 // 4], flat[area * 5 // 4 :] = colour
    with (
        open_sinks("pipewire", width, height, fps) as sinks,
        sinks.outlet(Card(width, height), Stats(), fps=fps) as outlet,
    ):
        outlet.write(outlet.card.frame(time.monotonic(), -1))
        for seq in range(sys.maxsize):
            now = time.monotonic()
            for bit, luma in enumerate(reader.code(now)):
                data[:16, bit * 16 : bit * 16 + 16] = luma
            maker = "vcam.compose.compositor"
            outlet.write(SafeFrame(data, now, seq, is_card=False, maker=maker))
            if seq == 0:
                print("ready", flush=True)
            time.sleep(1 / fps)


if __name__ == "__main__":
    main()
