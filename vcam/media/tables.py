"""Planes in any coding to BT.601 planes by one table: for HDR and wide colours in clips."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

import numpy as np

from segmentation.jit import compiled, made
from vcam.media import colour

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Wide = NDArray[np.uint16]
    Bytes = NDArray[np.uint8]
    Floats = NDArray[np.float32]

LUMA, CHROMA = 129, 65  # nodes of the table: 6.5 MB, made in a quarter of a second
_STEP_Y: Final = 65536 / (LUMA - 1)
_STEP_C: Final = 65536 / (CHROMA - 1)


@functools.lru_cache(4)
def table(coding: colour.Coding) -> NDArray[np.float32]:
    """Y, U, V in 8-bit steps of BT.601 limited range, for every node of 16-bit Y, U, V.

    Shapes:
        returns: (LUMA, CHROMA, CHROMA, 3) float32
    """
    y, u, v = (np.linspace(0, 256, n) for n in (LUMA, CHROMA, CHROMA))
    if coding.full_range:
        y, u, v = y / 255, (u - 128) / 255, (v - 128) / 255
    else:
        y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    kr, kb = colour.weights(coding.matrix)
    luma, cb, cr = np.meshgrid(y, u, v, indexing="ij")
    r, b = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    rgb = colour.srgb(np.stack([r, g, b], -1), coding)
    kr, kb = 0.299, 0.114
    out_y = rgb @ np.array([kr, 1 - kr - kb, kb])
    out_u, out_v = (rgb[..., 2] - out_y) / (2 * (1 - kb)), (rgb[..., 0] - out_y) / (2 * (1 - kr))
    planes = (16 + 219 * out_y, 128 + 224 * out_u, 128 + 224 * out_v)
    return np.ascontiguousarray(np.stack(planes, -1), np.float32)


_IN: Final = "Array(u2, 2, 'A', readonly=True)"
_OUT: Final = "u1[:, ::1]"


@compiled(f"void({_IN}, {_IN}, {_IN}, Array(f4, 4, 'C', readonly=True), {_OUT}, {_OUT}, {_OUT})")
def _apply_compiled(
    y: Wide, u: Wide, v: Wide, nodes: Floats, out_y: Bytes, out_u: Bytes, out_v: Bytes
) -> None:
    weights = np.empty(4, np.float32)
    column = np.empty((LUMA, 3), np.float32)
    for i in range(u.shape[0]):
        last_u, last_v = -1, -1
        for j in range(u.shape[1]):
            cu, cv = int(u[i, j]), int(v[i, j])
            if cu != last_u or cv != last_v:
                last_u, last_v = cu, cv
                fu, fv = np.float32(cu / _STEP_C), np.float32(cv / _STEP_C)
                iu, iv = min(int(fu), CHROMA - 2), min(int(fv), CHROMA - 2)
                fu -= iu
                fv -= iv
                weights[0], weights[1] = (1 - fu) * (1 - fv), (1 - fu) * fv
                weights[2], weights[3] = fu * (1 - fv), fu * fv
                ready_from, ready_to = 0, -1
            mean = np.float32(0)
            for k in range(4):
                fy = np.float32(y[2 * i + k // 2, 2 * j + k % 2] / _STEP_Y)
                iy = min(int(fy), LUMA - 2)
                fy -= iy
                if iy < ready_from or iy + 1 > ready_to:
                    ready_from, ready_to = iy, iy + 1
                    for n in range(iy, iy + 2):
                        for c in range(3):
                            column[n, c] = (
                                weights[0] * nodes[n, iu, iv, c]
                                + weights[1] * nodes[n, iu, iv + 1, c]
                                + weights[2] * nodes[n, iu + 1, iv, c]
                                + weights[3] * nodes[n, iu + 1, iv + 1, c]
                            )
                mean += iy + fy
                value = column[iy, 0] + (column[iy + 1, 0] - column[iy, 0]) * fy
                out_y[2 * i + k // 2, 2 * j + k % 2] = int(value + np.float32(0.5))
            mean *= np.float32(0.25)
            im = min(int(mean), LUMA - 2)
            mean -= im
            if im < ready_from or im + 1 > ready_to:
                ready_from, ready_to = im, im + 1
                for n in range(im, im + 2):
                    for c in range(3):
                        column[n, c] = (
                            weights[0] * nodes[n, iu, iv, c]
                            + weights[1] * nodes[n, iu, iv + 1, c]
                            + weights[2] * nodes[n, iu + 1, iv, c]
                            + weights[3] * nodes[n, iu + 1, iv + 1, c]
                        )
            value = column[im, 1] + (column[im + 1, 1] - column[im, 1]) * mean
            out_u[i, j] = int(value + np.float32(0.5))
            value = column[im, 2] + (column[im + 1, 2] - column[im, 2]) * mean
            out_v[i, j] = int(value + np.float32(0.5))


def _apply_plain(
    y: Wide, u: Wide, v: Wide, nodes: Floats, out_y: Bytes, out_u: Bytes, out_v: Bytes
) -> None:
    for top in range(0, u.shape[0], 32):  # in bands, for memory's sake
        part = slice(top, min(top + 32, u.shape[0]))
        rows = slice(2 * part.start, 2 * part.stop)
        chroma = [plane[part].astype(np.float32) / np.float32(_STEP_C) for plane in (u, v)]
        luma = y[rows].astype(np.float32) / np.float32(_STEP_Y)
        wide = [np.repeat(np.repeat(plane, 2, 0), 2, 1) for plane in chroma]
        out_y[rows] = _looked_up(nodes[..., 0], luma, *wide)
        mean = (luma[::2, ::2] + luma[::2, 1::2] + luma[1::2, ::2] + luma[1::2, 1::2]) / 4
        out_u[part] = _looked_up(nodes[..., 1], mean, *chroma)
        out_v[part] = _looked_up(nodes[..., 2], mean, *chroma)


def _looked_up(nodes: Floats, y: Floats, u: Floats, v: Floats) -> Bytes:
    at = [
        np.minimum(plane.astype(np.int32), n - 2)
        for plane, n in zip((y, u, v), nodes.shape, strict=True)
    ]
    shares = [plane - i for plane, i in zip((y, u, v), at, strict=True)]
    found = np.zeros(y.shape, np.float32)
    for corner in np.ndindex(2, 2, 2):
        weight = np.ones(y.shape, np.float32)
        for share, side in zip(shares, corner, strict=True):
            weight *= share if side else 1 - share
        found += weight * nodes[tuple(i + side for i, side in zip(at, corner, strict=True))]
    return (found + 0.5).astype(np.uint8)


apply = _apply_compiled if made(_apply_compiled) else _apply_plain
