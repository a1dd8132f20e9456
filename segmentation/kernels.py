"""Loops over pixels at model size: planes to network input, and moving averages.

Each comes twice: compiled by Numba, and in NumPy where Numba is missing; both give the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from segmentation.jit import COMPILED, compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Rows of `matrix` in `to_input`: Y, U, V and a constant to R, G, B in 0..1, from BT.601.
LIMITED = np.array(
    [
        [1 / 219, 0, 1.402 / 224, 0],
        [1 / 219, -0.344136 / 224, -0.714136 / 224, 0],
        [1 / 219, 1.772 / 224, 0, 0],
    ]
)
LIMITED[:, 3] = -(LIMITED[:, 0] * 16 + (LIMITED[:, 1] + LIMITED[:, 2]) * 128)
FULL = LIMITED * [219 / 255, 224 / 255, 224 / 255, 0]
FULL[:, 3] = -(FULL[:, 1] + FULL[:, 2]) * 128


@compiled("void(Array(u1, 3, 'C', readonly=True), f4[:, ::1], f4[:, ::1], f4[:, :, :, ::1])")
def _to_input_compiled(
    small: NDArray[np.uint8],
    matrix: NDArray[np.float32],
    scale: NDArray[np.float32],
    x: NDArray[np.float32],
) -> None:
    h, w = small.shape[1], small.shape[2]
    for c in range(3):
        m0, m1, m2, m3 = matrix[c, 0], matrix[c, 1], matrix[c, 2], matrix[c, 3]
        s, t = scale[c, 0], scale[c, 1]
        for i in range(h):
            y, u, v, out = small[0, i], small[1, i], small[2, i], x[0, c, i]
            for j in range(w):
                a = np.float32(y[j]) * m0 + np.float32(u[j]) * m1
                a = (a + np.float32(v[j]) * m2) + m3
                a = min(max(a, np.float32(0)), np.float32(1))
                out[j] = a * s + t
            last = out[w - 1]
            for j in range(w, x.shape[3]):
                out[j] = last
        for i in range(h, x.shape[2]):
            x[0, c, i, :] = x[0, c, h - 1, :]


def _to_input_plain(
    small: NDArray[np.uint8],
    matrix: NDArray[np.float32],
    scale: NDArray[np.float32],
    x: NDArray[np.float32],
) -> None:
    h, w = small.shape[1:]
    planes = small.astype(np.float32)
    for c in range(3):
        m = matrix[c]
        a = planes[0] * m[0] + planes[1] * m[1]
        a = (a + planes[2] * m[2]) + m[3]
        a = np.clip(a, np.float32(0), np.float32(1))
        x[0, c, :h, :w] = a * scale[c, 0] + scale[c, 1]
    x[0, :, :h, w:] = x[0, :, :h, w - 1 : w]
    x[0, :, h:] = x[0, :, h - 1 : h]


to_input = _to_input_compiled if COMPILED else _to_input_plain


@compiled("void(Array(f4, 2, 'C', readonly=True), f4[:, ::1], f4[:, ::1], f4, f4, f4, f4)")
def _smooth_compiled(
    alpha: NDArray[np.float32],
    motion: NDArray[np.float32],
    held: NDArray[np.float32],
    decay: float,
    still: float,
    low: float,
    high: float,
) -> None:
    one = np.float32(1)
    span = one / (high - low)
    inverse = one / still
    for i in range(alpha.shape[0]):
        a, m, h = alpha[i], motion[i], held[i]
        for j in range(a.size):
            step = a[j] - h[j]
            far = (abs(step) - low) * span
            far = min(max(far, np.float32(0)), one)
            rest = m[j] * inverse
            keep = decay * (one - far) / (one + rest * rest)
            h[j] = a[j] - step * keep


def _smooth_plain(
    alpha: NDArray[np.float32],
    motion: NDArray[np.float32],
    held: NDArray[np.float32],
    decay: float,
    still: float,
    low: float,
    high: float,
) -> None:
    one = np.float32(1)
    span = one / (np.float32(high) - np.float32(low))
    step = alpha - held
    far = np.clip((np.abs(step) - np.float32(low)) * span, np.float32(0), one)
    rest = motion * (one / np.float32(still))
    keep = np.float32(decay) * (one - far) / (one + rest * rest)
    np.subtract(alpha, step * keep, out=held)


smooth = _smooth_compiled if COMPILED else _smooth_plain
