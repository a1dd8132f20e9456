"""Sizes of the network's input."""

from __future__ import annotations

from typing import Final

AREAS: Final = {"low": 272 * 160, "balanced": 368 * 224, "high": 384 * 224}
STEP: Final = 32  # both sides of the network's input are multiples of this


def input_size(
    height: int, width: int, area: int, fixed: tuple[int, int] | None = None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the network's input size and the part of it that the frame fills, both as (h, w).

    The frame keeps its shape: what it does not fill is padding, at the right and the bottom.
    """
    if fixed is not None:
        full_h, full_w = fixed
    else:
        full_h, full_w = STEP, STEP
        best = 0.0
        for rows in range(STEP, area // STEP + 1, STEP):
            columns = max(STEP, min(-(-round(rows * width / height) // STEP), area // STEP) * STEP)
            for across in (columns, columns - STEP):
                scale = min(rows / height, across / width)
                if across > 0 and rows * across <= 1.12 * area and scale > best * 1.001:
                    full_h, full_w, best = rows, across, scale
    scale = min(full_h / height, full_w / width)
    return (full_h, full_w), (
        min(full_h, max(1, round(height * scale))),
        min(full_w, max(1, round(width * scale))),
    )
