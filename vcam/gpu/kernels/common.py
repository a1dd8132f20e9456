# mypy: ignore-errors
# Triton has no types, and its kernels are a language of their own.
"""Triton functions of both the matte's and the composite's kernels: taps, clamps, packed pixels."""

from __future__ import annotations

import os

from vcam.gpu.kernels.language import tl, triton

# Triton's interpreter runs a block as NumPy arrays: the larger, the quicker.
BLOCK = 16384 if os.environ.get("TRITON_INTERPRET") == "1" else 256


def blocks(pixels: int) -> tuple[int]:
    """Return how many blocks such a number of pixels takes."""
    return (triton.cdiv(pixels, BLOCK),)


@triton.jit
def _number(at, inside):
    """The value there, 0 if it is no number."""
    x = tl.load(at, mask=inside, other=0)
    return tl.where(x == x, x, 0.0)


@triton.jit
def _linear(plane, wide, rows, row_weights, columns, column_weights, i, j, h, w, inside):
    """A plane `wide` pixels wide at pixel (i, j) of its new size (h, w), linearly."""
    found = i.to(tl.float32) * 0
    for across in tl.static_range(2):
        c = tl.load(columns + across * w + j, mask=inside, other=0)
        column = i.to(tl.float32) * 0
        for down in tl.static_range(2):
            r = tl.load(rows + down * h + i, mask=inside, other=0)
            weight = tl.load(row_weights + down * h + i, mask=inside, other=0)
            column += _number(plane + r * wide + c, inside) * weight
        found += column * tl.load(column_weights + across * w + j, mask=inside, other=0)
    return found


@triton.jit
def _clamped(x, low, high):
    return tl.minimum(tl.maximum(x, low), high)


@triton.jit
def _mirrored(i, n):
    """A place beyond the edge, reflected; the edge itself is not repeated."""
    i = tl.abs(i)
    return n - 1 - tl.abs(n - 1 - i)


@triton.jit
def _ramp(alpha, start, end):
    return _clamped((alpha - start) * (1 / (end - start)), 0.0, 1.0)


@triton.jit
def _pixel(plane, line, r, c, inside, step):
    return tl.load(plane + r * line + c * step, mask=inside, other=0).to(tl.int32)


@triton.jit
def _half(plane, line, r, c, inside, step):
    r, c = 2 * r, 2 * c
    top = _pixel(plane, line, r, c, inside, step) + _pixel(plane, line, r, c + 1, inside, step)
    r = r + 1
    low = _pixel(plane, line, r, c, inside, step) + _pixel(plane, line, r, c + 1, inside, step)
    return (top + low + 2) >> 2


@triton.jit
def _quarter(plane, line, r, c, inside, step):
    r, c = 2 * r, 2 * c
    top = _half(plane, line, r, c, inside, step) + _half(plane, line, r, c + 1, inside, step)
    r = r + 1
    low = _half(plane, line, r, c, inside, step) + _half(plane, line, r, c + 1, inside, step)
    return (top + low + 2) >> 2


@triton.jit
def _at(plane, line, r, c, inside, step, HALVES: tl.constexpr):
    """A pixel of the plane after so many halvings, each rounded."""
    if HALVES == 0:
        found = _pixel(plane, line, r, c, inside, step)
    elif HALVES == 1:
        found = _half(plane, line, r, c, inside, step)
    else:
        found = _quarter(plane, line, r, c, inside, step)
    return found


@triton.jit
def _shrunk(
    plane, line, rows, row_weights, columns, column_weights, i, j, h, w, inside,
    step, HALVES: tl.constexpr, EXACT: tl.constexpr, down_taps, across_taps,
):  # fmt: skip
    """The plane's pixel (i, j) at model size, in whole levels."""
    if EXACT:  # `resample.Bytes`: weights in 1/2048
        j0 = tl.load(columns + j, mask=inside, other=0)
        j1 = tl.load(columns + w + j, mask=inside, other=0)
        w0 = tl.load(column_weights + j, mask=inside, other=0)
        w1 = tl.load(column_weights + w + j, mask=inside, other=0)
        sums = i * 0 + 2
        for tap in tl.static_range(2):
            r = tl.load(rows + tap * h + i, mask=inside, other=0)
            left = _at(plane, line, r, j0, inside, step, HALVES)
            right = _at(plane, line, r, j1, inside, step, HALVES)
            weight = tl.load(row_weights + tap * h + i, mask=inside, other=0)
            sums += (((left * w0 + right * w1) >> 4) * weight) >> 16
        found = (sums >> 2).to(tl.float32)
    else:  # `resample.Resize`, by area
        found = i.to(tl.float32) * 0
        for across in range(across_taps):
            c = tl.load(columns + across * w + j, mask=inside, other=0)
            column = i.to(tl.float32) * 0
            for down in range(down_taps):
                r = tl.load(rows + down * h + i, mask=inside, other=0)
                weight = tl.load(row_weights + down * h + i, mask=inside, other=0)
                column += _at(plane, line, r, c, inside, step, HALVES).to(tl.float32) * weight
            found += column * tl.load(column_weights + across * w + j, mask=inside, other=0)
        found = tl.floor(found + 0.5)
    return tl.minimum(tl.maximum(found, 0.0), 255.0)
