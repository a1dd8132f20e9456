"""A program in a call, through GStreamer: one JSON line a picture with its colours and age.

    python tests/desktop/reader.py WIDTH HEIGHT COUNT

Needs nothing of the project: GStreamer hands whole pictures to standard output.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

BITS, CELL = 32, 16  # a time code: milliseconds of the monotonic clock, drawn into the top rows


def code(now: float) -> list[int]:
    """The luma of each cell for a moment."""
    value = int(now * 1000) & 0xFFFFFFFF
    return [235 if value >> (BITS - 1 - bit) & 1 else 16 for bit in range(BITS)]


def age(row: bytes, cell: int = CELL) -> float:
    """Seconds since the moment drawn into a picture's row."""
    value = 0
    for bit in range(BITS):
        value = value << 1 | (row[bit * cell + cell // 2] > 128)
    return ((int(time.monotonic() * 1000) - value) & 0xFFFFFFFF) / 1000


def pixel(data: bytes, width: int, height: int, share: float) -> list[int]:
    """Y, U and V at a share of the width, below the middle."""
    x, y, area = int(width * share), int(height * 0.6), width * height
    chroma = area + y // 2 * (width // 2) + x // 2
    return [data[y * width + x], data[chroma], data[chroma + area // 4]]


def main() -> int:
    width, height, count = map(int, sys.argv[1:4])
    size = width * height * 3 // 2
    source = subprocess.Popen(
        ["gst-launch-1.0", "-q", "pipewiresrc", "target-object=vbg_camera",
         f"num-buffers={count}", "!",
         f"video/x-raw,format=I420,width={width},height={height}", "!",
         "fdsink", "fd=1", "sync=false"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert source.stdout is not None
    while len(data := source.stdout.read(size)) == size:
        print(json.dumps({
            "at": time.monotonic(), "age": age(data[4 * width : 5 * width]),
            "left": pixel(data, width, height, 0.1), "right": pixel(data, width, height, 0.9),
        }), flush=True)  # fmt: skip
    return source.wait()


if __name__ == "__main__":
    sys.exit(main())
