"""Render the rooms among the backgrounds: `python docs/artwork/rooms.py NAME…`, with bpy from pip.

Each room is built of boxes, turned bodies and leaves, lit by windows and lamps, and seen through a
lens that is focused where the person sits, so that what is behind is soft.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import blocks as b
import bpy

DAY: Final = (0.86, 0.93, 1.0)
WARM: Final = (1.0, 0.74, 0.45)
OAK: Final = ((0.26, 0.14, 0.065), (0.42, 0.25, 0.12))
WALNUT: Final = ((0.09, 0.045, 0.022), (0.19, 0.1, 0.05))


def shell(
    wall: Any, floor: Any, *, deep: float = 4.2, wide: float = 3.4, high: float = 2.75
) -> None:
    """Floor, ceiling and walls of a room; left and right stay open where a window is set in."""
    high, white = 2.75, b.surface("ceiling", (0.82, 0.81, 0.79), rough=0.9)
    b.box((-wide, -1.5, -0.1), (wide, deep, 0), floor, bevel=0)
    b.box((-wide, -1.5, high), (wide, deep, high + 0.1), white, bevel=0)
    b.box((-wide, deep, 0), (wide, deep + 0.1, high), wall, bevel=0)
    b.box((-wide, deep - 0.015, 0), (wide, deep, 0.09), white, bevel=0.003)


def side(x: float, wall: Any, *, near: float = -1.5, far: float = 4.2, high: float = 2.75) -> None:
    """A wall at the left or right."""
    b.box((min(x, x * 1.03), near, 0), (max(x, x * 1.03), far, high), wall, bevel=0)


def window_at(x: float, near: float, far: float, wall: Any, bars: Any, power: float) -> None:
    """A side wall with a tall window between `near` and `far`, and daylight that comes in."""
    side(x, wall, far=near)
    side(x, wall, near=far)
    b.box((min(x, x * 1.03), near, 0), (max(x, x * 1.03), far, 0.45), wall, bevel=0)
    b.box((min(x, x * 1.03), near, 2.5), (max(x, x * 1.03), far, 2.75), wall, bevel=0)
    b.frame_grid((x, near, 0.45), (x, far, 2.5), 3, 3, bars)
    sky = b.glowing("sky", DAY, 2.6)
    out = x + math.copysign(0.9, x)
    b.box((min(out, out * 1.01), near - 2, -1), (max(out, out * 1.01), far + 4, 4), sky, bevel=0)
    middle = (x + math.copysign(0.1, x), (near + far) / 2, 1.5)
    b.panel(middle, (-x, 0, -0.25), (far - near, 2.0), power, DAY)


def loft() -> None:
    rng = random.Random(3)
    brick = b.bricks("brick", (0.36, 0.17, 0.11), (0.45, 0.24, 0.16), (0.5, 0.46, 0.41))
    shell(brick, b.wood("floor", *OAK, along="X"))
    plaster = b.surface("plaster", (0.72, 0.7, 0.66), rough=0.9, bump=0.15)
    steel = b.surface("steel", (0.03, 0.03, 0.035), rough=0.4)
    window_at(-3.0, 1.2, 4.0, plaster, steel, 260)
    side(3.2, plaster)
    leather = b.surface("leather", (0.22, 0.085, 0.035), rough=0.42, bump=0.12, grain=20)
    cushions = [b.surface("c1", (0.62, 0.56, 0.46), rough=0.95, bump=0.2, grain=60),
                b.surface("c2", (0.1, 0.15, 0.17), rough=0.95, bump=0.2, grain=60)]  # fmt: skip
    b.sofa((0.7, 3.55, 0), 2.3, leather, cushions)
    b.plant((-1.55, 3.5, 0), 1.35, rng)
    b.plant((2.55, 3.7, 0), 0.95, rng, leaves=50)
    b.lamp((-0.85, 3.85, 0), 1.55, power=14)
    b.panel((0, 0.6, 2.7), (0, 0.2, -1), (3, 2), 32, (1.0, 0.95, 0.88))


def study() -> None:
    rng = random.Random(11)
    paint = b.surface("paint", (0.09, 0.13, 0.14), rough=0.85, bump=0.05)
    shell(paint, b.wood("floor", *WALNUT))
    side(-3.0, paint)
    side(3.0, paint)
    timber = b.wood("timber", *WALNUT, along="X")
    colours = b.spines(26, rng)
    for column in range(4):
        left = -2.9 + 1.46 * column
        b.box((left - 0.02, 3.72, 0), (left + 0.02, 4.18, 2.6), timber)
        for row in range(6):
            z = 0.12 + 0.42 * row
            b.box((left, 3.74, z - 0.03), (left + 1.46, 4.18, z), timber)
            if rng.random() < 0.82 and row < 5:
                b.books((left + 0.05, 3.86, z), 1.38, 0.38, rng, colours)
            elif row < 5:
                b.vase((left + 0.5, 3.95, z), 0.28, b.surface("clay", (0.6, 0.5, 0.4)), rng)
    b.lamp((2.2, 3.1, 0), 1.5, power=44)
    b.lamp((-2.3, 3.3, 0), 1.45, power=12)
    b.panel((-1.2, 0.8, 2.7), (0.2, 0.7, -1), (2.5, 1.5), 150, (1.0, 0.86, 0.7))


def living() -> None:
    rng = random.Random(5)
    paint = b.surface("paint", (0.7, 0.67, 0.61), rough=0.9, bump=0.06)
    shell(paint, b.wood("floor", (0.36, 0.24, 0.14), (0.55, 0.4, 0.26)))
    side(-3.1, paint)
    white = b.surface("bars", (0.8, 0.8, 0.78), rough=0.5)
    window_at(3.0, 0.9, 3.6, paint, white, 250)
    linen = b.surface("linen", (0.36, 0.4, 0.38), rough=0.98, bump=0.2, grain=50)
    dyes = ((0.68, 0.42, 0.2), (0.75, 0.71, 0.63), (0.2, 0.25, 0.25))
    cushions = [b.surface(f"c{i}", dye, rough=0.95) for i, dye in enumerate(dyes)]
    b.sofa((-0.3, 3.6, 0), 2.5, linen, cushions)
    oak = b.wood("oak", *OAK)
    paints = [b.surface(f"p{i}", c, rough=0.9) for i, c in enumerate(
        [(0.65, 0.33, 0.16), (0.22, 0.3, 0.3), (0.8, 0.62, 0.36)])]  # fmt: skip
    b.picture((-1.5, 4.2, 1.25), (-0.85, 4.2, 2.1), rng, paints, oak)
    b.picture((0.35, 4.2, 1.25), (1.0, 4.2, 2.1), rng, paints[::-1], oak)
    b.plant((1.9, 3.6, 0), 1.5, rng, leaves=80)
    b.lamp((-2.15, 3.75, 0), 1.5, power=8)
    b.panel((-0.6, 0.5, 2.7), (0, 0.3, -1), (3, 2), 26, (1.0, 0.95, 0.88))


def evening() -> None:
    rng = random.Random(8)
    paint = b.surface("paint", (0.46, 0.4, 0.34), rough=0.9, bump=0.06)
    shell(paint, b.wood("floor", *WALNUT))
    side(3.1, paint)
    side(-3.1, paint)
    night = b.glowing("night", (0.012, 0.022, 0.06), 1.0)
    b.box((-2.5, 4.17, 0.9), (-0.7, 4.19, 2.3), night, bevel=0)
    b.frame_grid((-2.5, 4.16, 0.9), (-0.7, 4.16, 2.3), 2, 2, b.surface("bars", (0.5, 0.47, 0.42)))
    for _ in range(26):  # the town's lamps far below
        colour = rng.choice([WARM, (1.0, 0.6, 0.3), (0.8, 0.85, 1.0)])
        spot = (rng.uniform(-2.45, -0.75), 4.15, rng.uniform(0.95, 1.45))
        b.ball(spot, rng.uniform(0.003, 0.007), b.glowing("far", colour, rng.uniform(3, 16)))
    timber = b.wood("timber", *WALNUT)
    b.box((0.1, 3.75, 0.15), (2.5, 4.15, 0.62), timber)
    clay = [b.surface(f"clay{i}", c, rough=0.5) for i, c in enumerate(
        [(0.55, 0.45, 0.36), (0.16, 0.2, 0.2), (0.62, 0.3, 0.18)])]  # fmt: skip
    for i, at in enumerate((0.5, 0.8, 1.25)):
        b.vase((at, 3.95, 0.62), 0.22 + 0.1 * (i % 2), clay[i], rng)
    b.lamp((2.05, 3.95, 0.62), 0.5, power=48)
    b.lamp((-2.75, 3.4, 0), 1.5, power=34)
    b.plant((2.8, 3.5, 0), 1.2, rng, leaves=50)
    b.panel((0.6, 0.5, 2.7), (0, 0.6, -1), (2.5, 1.5), 62, (1.0, 0.8, 0.6))


def office() -> None:
    rng = random.Random(13)
    paint = b.surface("paint", (0.78, 0.79, 0.79), rough=0.85, bump=0.03)
    carpet = b.surface("carpet", (0.16, 0.18, 0.2), rough=1.0, bump=0.3, grain=80)
    shell(paint, carpet, deep=5.6, wide=3.8)
    side(3.6, paint, far=5.6)
    dark = b.surface("dark", (0.035, 0.037, 0.04), rough=0.4)
    window_at(-3.6, 1.5, 5.2, paint, dark, 270)
    oak = b.wood("oak", (0.4, 0.27, 0.15), (0.58, 0.42, 0.26))
    b.box((0.6, 5.1, 0.1), (3.4, 5.55, 0.85), oak)
    for i in range(3):
        b.box((0.62 + 0.93 * i, 5.08, 0.12), (1.5 + 0.93 * i, 5.1, 0.83), oak, bevel=0.008)
    colours = b.spines(12, rng)
    b.books((0.75, 5.2, 0.85), 0.7, 0.33, rng, colours)
    b.plant((3.0, 5.3, 0.85), 0.75, rng, leaves=50)
    b.vase((2.1, 5.35, 0.85), 0.3, b.surface("clay", (0.7, 0.66, 0.6)), rng)
    b.plant((-2.7, 5.0, 0), 1.5, rng, leaves=80)
    felt = b.surface("felt", (0.13, 0.26, 0.27), rough=1.0, bump=0.1, grain=60)
    for i in range(3):  # panels that swallow sound
        b.box((-1.9 + 0.78 * i, 5.54, 0.95), (-1.17 + 0.78 * i, 5.6, 2.35), felt, bevel=0.02)
    for i in (-1, 1):
        b.panel((1.3 * i, 2.6, 2.72), (0, 0, -1), (0.5, 2.4), 55, (1.0, 0.97, 0.92))
        shine = b.glowing("ceiling light", (1.0, 0.98, 0.94), 3.0)
        b.box((1.3 * i - 0.2, 1.6, 2.73), (1.3 * i + 0.2, 4.2, 2.745), shine, bevel=0)


def kitchen() -> None:
    rng = random.Random(17)
    tile = b.bricks("tile", (0.76, 0.76, 0.73), (0.7, 0.71, 0.69), (0.55, 0.54, 0.5))
    shell(tile, b.wood("floor", (0.36, 0.24, 0.14), (0.55, 0.4, 0.26)))
    paint = b.surface("paint", (0.74, 0.72, 0.67), rough=0.9)
    window_at(-2.9, 1.3, 3.7, paint, b.surface("bars", (0.8, 0.8, 0.78)), 215)
    side(3.1, paint)
    front = b.surface("front", (0.17, 0.24, 0.21), rough=0.5)
    oak = b.wood("oak", *OAK)
    b.box((-2.9, 3.6, 0.1), (3.1, 4.2, 0.88), front)
    for i in range(9):
        b.box((-2.88 + 0.66 * i, 3.585, 0.13), (-2.24 + 0.66 * i, 3.6, 0.86), front, bevel=0.01)
    b.box((-2.9, 3.55, 0.88), (3.1, 4.2, 0.93), oak)
    b.box((0.5, 3.95, 1.5), (2.9, 4.2, 1.54), oak)
    b.box((0.5, 3.95, 1.95), (2.9, 4.2, 1.99), oak)
    glaze = [b.surface(f"glaze{i}", c, rough=0.3) for i, c in enumerate(
        [(0.75, 0.73, 0.68), (0.3, 0.38, 0.4), (0.6, 0.4, 0.26)])]  # fmt: skip
    for z in (1.54, 1.99):
        at = 0.65
        while at < 2.75:
            if rng.random() < 0.5:
                b.vase((at, 4.07, z), rng.uniform(0.14, 0.26), rng.choice(glaze), rng)
            else:
                b.ball((at, 4.07, z + 0.06), 0.1, rng.choice(glaze), flat=0.6)
            at += rng.uniform(0.26, 0.4)
    b.plant((-1.9, 3.85, 0.93), 0.6, rng, leaves=45)
    b.vase((-1.2, 3.9, 0.93), 0.34, glaze[2], rng)
    brass = b.surface("brass", (0.5, 0.34, 0.14), rough=0.35)
    for x in (-0.9, 1.7):
        b.rod((x, 3.2, 1.95), 0.16, 0.16, brass, top=0.04)
        b.rod((x, 3.2, 2.1), 0.006, 0.65, brass)
        b.ball((x, 3.2, 1.96), 0.06, b.glowing("bulb", WARM, 14))
        b.light((x, 3.2, 1.86), 9, WARM)
    b.panel((0, 0.5, 2.7), (0, 0.3, -1), (3, 2), 30, (1.0, 0.96, 0.9))


def alcove() -> None:
    rng = random.Random(23)
    clay = b.surface("plaster", (0.62, 0.42, 0.29), rough=0.95, bump=0.22, grain=3.5)
    shell(clay, b.surface("stone", (0.5, 0.42, 0.34), rough=0.7, bump=0.1))
    side(3.1, clay)
    side(-3.1, clay, near=2.6)
    pale = b.surface("pale", (0.73, 0.55, 0.41), rough=0.95, bump=0.18, grain=4)
    _arch(1.45, 4.2, 0.62, 0.75, 1.55, pale)
    _arch(-1.75, 4.2, 0.5, 0.95, 1.35, pale)
    glaze = [b.surface(f"glaze{i}", c, rough=0.55) for i, c in enumerate(
        [(0.8, 0.74, 0.65), (0.25, 0.17, 0.13), (0.52, 0.28, 0.17)])]  # fmt: skip
    for i, (x, z) in enumerate(((1.2, 0.78), (1.55, 0.78), (1.78, 0.78), (-1.75, 0.98))):
        b.vase((x, 4.02, z), (0.5, 0.3, 0.22, 0.42)[i], glaze[i % 3], rng)
    b.plant((-2.6, 3.5, 0), 1.15, rng, leaves=40)
    b.box((-1.1, 3.6, 0), (1.0, 4.2, 0.42), clay, bevel=0.04)
    b.panel((-3.0, 1.2, 1.7), (1, 0.55, -0.2), (2.2, 2.0), 190, (1.0, 0.93, 0.84))
    b.panel((0.5, 0.2, 2.7), (0, 0.4, -1), (3, 2), 18, DAY)
    b.sun((1.0, 0.75, -0.62), 2.2)


def _arch(x: float, y: float, half: float, low: float, rise: float, material: Any) -> None:
    """A niche with a round top, standing out of the wall as a frame with a shelf."""
    ring: list[tuple[float, float, float]] = []
    for i in range(33):
        angle = math.pi * i / 32
        ring.append((half * math.cos(angle), 0, rise - half + half * math.sin(angle)))
    outline = [(half, 0, 0.0), *ring, (-half, 0, 0.0)]
    count, points = len(outline), []
    for grow, deep in ((1.0, -0.22), (1.1, -0.22), (1.1, 0.02), (1.0, 0.02)):
        points += [(px * grow, deep, pz * (1 + (grow - 1) * 0.4)) for px, _, pz in outline]
    faces: list[tuple[int, ...]] = []
    for layer in range(4):
        following = (layer + 1) % 4
        for i in range(count - 1):
            a, c = layer * count + i, following * count + i
            faces.append((a, a + 1, c + 1, c))
    b.mesh(points, faces, (x, y, low), material)
    b.box((x - half * 1.1, y - 0.26, low - 0.05), (x + half * 1.1, y, low + 0.03), material,
          bevel=0.012)  # fmt: skip


ROOMS: Final[dict[str, Callable[[], None]]] = {
    room.__name__: room for room in (loft, study, living, evening, office, kitchen, alcove)
}


def render(name: str, target: Path, *, width: int = 1152, samples: int = 24) -> None:
    """Build the room and render it, in sRGB as PNG."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    ROOMS[name]()
    scene = bpy.context.scene
    bpy.ops.object.camera_add(location=(0, 0, 1.28), rotation=(math.radians(87.5), 0, 0))
    eye = bpy.context.object.data
    eye.lens, eye.sensor_width = 27, 36
    eye.dof.use_dof, eye.dof.focus_distance, eye.dof.aperture_fstop = True, 0.9, 1.5
    scene.camera = bpy.context.object
    scene.world = bpy.data.worlds.new("world")
    scene.render.engine = "CYCLES"
    cycles = scene.cycles
    cycles.samples, cycles.use_denoising, cycles.denoiser = samples, True, "OPENIMAGEDENOISE"
    cycles.max_bounces, cycles.diffuse_bounces, cycles.use_adaptive_sampling = 6, 4, True
    cycles.sample_clamp_indirect, cycles.caustics_reflective = 4.0, False
    scene.render.resolution_x, scene.render.resolution_y = width, width * 9 // 16
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.look = "AgX - Medium High Contrast"
    scene.render.threads_mode, scene.render.threads = "FIXED", 2
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(target)
    bpy.ops.render.render(write_still=True)


if __name__ == "__main__":
    small = "--small" in sys.argv
    for wanted in [name for name in sys.argv[1:] if name in ROOMS] or list(ROOMS):
        path = Path.cwd() / f"{wanted}.png"
        render(wanted, path, **({"width": 480, "samples": 24} if small else {}))
