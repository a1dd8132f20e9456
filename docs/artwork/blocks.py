"""Building blocks of the rooms: surfaces, furniture, plants, lamps and windows for Blender."""

from __future__ import annotations

import math
import random
from typing import Any

import bpy

Colour = tuple[float, float, float]
Place = tuple[float, float, float]


def surface(
    name: str, colour: Colour, *, rough: float = 0.6, bump: float = 0.0, grain: float = 6.0
) -> Any:
    """A painted, plastered or polished surface; `bump` gives it unevenness `grain` a metre."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    body = nodes["Principled BSDF"]
    body.inputs["Base Color"].default_value = (*colour, 1)
    body.inputs["Roughness"].default_value = rough
    if bump:
        where = nodes.new("ShaderNodeTexCoord")
        noise = nodes.new("ShaderNodeTexNoise")
        noise.inputs["Scale"].default_value = grain
        noise.inputs["Detail"].default_value = 5
        links.new(where.outputs["Object"], noise.inputs["Vector"])
        raised = nodes.new("ShaderNodeBump")
        raised.inputs["Strength"].default_value = bump
        raised.inputs["Distance"].default_value = 0.03
        links.new(noise.outputs["Fac"], raised.inputs["Height"])
        links.new(raised.outputs["Normal"], body.inputs["Normal"])
        tint = nodes.new("ShaderNodeMixRGB")
        tint.inputs[1].default_value = (*(0.88 * c for c in colour), 1)
        tint.inputs[2].default_value = (*(min(1.1 * c, 1) for c in colour), 1)
        links.new(noise.outputs["Fac"], tint.inputs[0])
        links.new(tint.outputs[0], body.inputs["Base Color"])
    return material


def wood(name: str, dark: Colour, light: Colour, *, along: str = "X", rough: float = 0.45) -> Any:
    """Wood whose grain runs along an axis of the thing it is on."""
    material = surface(name, light, rough=rough)
    nodes, links = material.node_tree.nodes, material.node_tree.links
    where, stretch = nodes.new("ShaderNodeTexCoord"), nodes.new("ShaderNodeMapping")
    scale = {"X": (0.6, 9, 9), "Y": (9, 0.6, 9), "Z": (9, 9, 0.6)}[along]
    stretch.inputs["Scale"].default_value = scale
    noise, ramp = nodes.new("ShaderNodeTexNoise"), nodes.new("ShaderNodeValToRGB")
    noise.inputs["Scale"].default_value = 2.2
    noise.inputs["Detail"].default_value = 8
    ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[1].position = 0.3, 0.7
    ramp.color_ramp.elements[0].color, ramp.color_ramp.elements[1].color = (*dark, 1), (*light, 1)
    links.new(where.outputs["Object"], stretch.inputs["Vector"])
    links.new(stretch.outputs["Vector"], noise.inputs["Vector"])
    links.new(noise.outputs["Fac"], ramp.inputs["Fac"])
    links.new(ramp.outputs["Color"], nodes["Principled BSDF"].inputs["Base Color"])
    return material


def bricks(name: str, first: Colour, second: Colour, mortar: Colour) -> Any:
    """A wall of bricks, seen from the front."""
    material = surface(name, first, rough=0.9)
    nodes, links = material.node_tree.nodes, material.node_tree.links
    where, turned = nodes.new("ShaderNodeTexCoord"), nodes.new("ShaderNodeMapping")
    turned.inputs["Rotation"].default_value = (math.pi / 2, 0, 0)
    brick = nodes.new("ShaderNodeTexBrick")
    for slot, colour in (("Color1", first), ("Color2", second), ("Mortar", mortar)):
        brick.inputs[slot].default_value = (*colour, 1)
    brick.inputs["Scale"].default_value = 2.1
    brick.inputs["Mortar Size"].default_value = 0.014
    raised = nodes.new("ShaderNodeBump")
    raised.inputs["Strength"].default_value = 0.5
    raised.invert = True
    links.new(where.outputs["Object"], turned.inputs["Vector"])
    links.new(turned.outputs["Vector"], brick.inputs["Vector"])
    links.new(brick.outputs["Color"], nodes["Principled BSDF"].inputs["Base Color"])
    links.new(brick.outputs["Fac"], raised.inputs["Height"])
    links.new(raised.outputs["Normal"], nodes["Principled BSDF"].inputs["Normal"])
    return material


def glowing(name: str, colour: Colour, strength: float) -> Any:
    """A surface that shines."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes = material.node_tree.nodes
    shine = nodes.new("ShaderNodeEmission")
    shine.inputs["Color"].default_value = (*colour, 1)
    shine.inputs["Strength"].default_value = strength
    out = nodes["Material Output"]
    material.node_tree.links.new(shine.outputs["Emission"], out.inputs["Surface"])
    return material


def _dressed(material: Any, *, bevel: float = 0.0, smooth: bool = False) -> Any:
    thing = bpy.context.object
    thing.data.materials.append(material)
    if bevel:
        edge = thing.modifiers.new("edge", "BEVEL")
        edge.width, edge.segments = bevel, 4
    if smooth or bevel > 0.02:
        bpy.ops.object.shade_smooth()
    return thing


def box(low: Place, high: Place, material: Any, *, bevel: float = 0.006) -> Any:
    """A block between two corners, in metres."""
    middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
    bpy.ops.mesh.primitive_cube_add(size=1, location=middle)
    thing = bpy.context.object
    thing.scale = [b - a for a, b in zip(low, high, strict=True)]
    bpy.ops.object.transform_apply(location=False, scale=True)
    return _dressed(material, bevel=bevel)


def rod(foot: Place, radius: float, height: float, material: Any, *, top: float = -1.0) -> Any:
    """A standing cylinder, or a cone where `top` is another radius."""
    where = (foot[0], foot[1], foot[2] + height / 2)
    bpy.ops.mesh.primitive_cone_add(
        radius1=radius, radius2=radius if top < 0 else top, depth=height, location=where,
        vertices=48,
    )  # fmt: skip
    thing = _dressed(material, bevel=0.004)
    bpy.ops.object.shade_auto_smooth() if hasattr(bpy.ops.object, "shade_auto_smooth") else None
    return thing


def ball(middle: Place, radius: float, material: Any, *, flat: float = 1.0) -> Any:
    """A ball, or a bowl-like body where `flat` is below 1."""
    bpy.ops.mesh.primitive_uv_sphere_add(radius=radius, location=middle, segments=40, ring_count=24)
    bpy.context.object.scale[2] = flat
    return _dressed(material, smooth=True)


def vase(foot: Place, height: float, material: Any, rng: random.Random) -> Any:
    """A turned vase: a profile spun about its axis."""
    belly, neck = rng.uniform(0.28, 0.42) * height, rng.uniform(0.08, 0.16) * height
    at = rng.uniform(0.35, 0.6)
    rows, turns, points, faces = 22, 40, [], []
    for row in range(rows):
        share = row / (rows - 1)
        bulge = math.exp(-(((share - at) / 0.3) ** 2))
        radius = neck + (belly - neck) * bulge
        for turn in range(turns):
            angle = 2 * math.pi * turn / turns
            points.append((radius * math.cos(angle), radius * math.sin(angle), share * height))
    for row in range(rows - 1):
        for turn in range(turns):
            a, b = row * turns + turn, row * turns + (turn + 1) % turns
            faces.append((a, b, b + turns, a + turns))
    return mesh(points, faces, foot, material)


def mesh(points: list[Place], faces: list[tuple[int, ...]], where: Place, material: Any) -> Any:
    """A body of points and faces."""
    data = bpy.data.meshes.new("body")
    data.from_pydata(points, [], faces)
    thing = bpy.data.objects.new("body", data)
    thing.location = where
    bpy.context.collection.objects.link(thing)
    bpy.context.view_layer.objects.active = thing
    thing.select_set(True)
    return _dressed(material, smooth=True)


def plant(foot: Place, height: float, rng: random.Random, *, leaves: int = 70) -> None:
    """A pot and long arching leaves, each bent along its length."""
    pot = surface("pot", rng.choice([(0.75, 0.7, 0.63), (0.3, 0.3, 0.32), (0.6, 0.34, 0.22)]))
    size = 0.16 * height
    rod(foot, size * 0.75, size * 1.5, pot, top=size)
    greens = [
        surface(f"leaf{i}", (0.03 + 0.05 * i, 0.16 + 0.06 * i, 0.03 + 0.02 * i), rough=0.35)
        for i in range(3)
    ]
    for _ in range(leaves):
        turn, lean = rng.uniform(0, 2 * math.pi), rng.uniform(0.1, 1.0)
        length, wide = height * rng.uniform(0.55, 1.05), height * rng.uniform(0.025, 0.05)
        points, faces = [], []
        for i in range(9):
            t = i / 8
            out = length * lean * 0.55 * t**1.4
            up = length * (t - 0.45 * lean * t**2.4)
            half = wide * math.sin(math.pi * (0.08 + 0.92 * t)) ** 0.8
            cx, cy = out * math.cos(turn), out * math.sin(turn)
            sx, sy = -half * math.sin(turn), half * math.cos(turn)
            points += [(cx - sx, cy - sy, up), (cx + sx, cy + sy, up)]
        faces = [(2 * i, 2 * i + 1, 2 * i + 3, 2 * i + 2) for i in range(8)]
        mesh(points, faces, (foot[0], foot[1], foot[2] + size * 1.3), rng.choice(greens))


def books(left: Place, width: float, height: float, rng: random.Random, colours: list[Any]) -> None:
    """A row of books that fills most of a shelf, with gaps and some lying."""
    at = left[0]
    while at < left[0] + width - 0.05:
        if rng.random() < 0.12:
            at += rng.uniform(0.05, 0.18)
            continue
        thick, tall = rng.uniform(0.016, 0.045), height * rng.uniform(0.6, 0.92)
        deep = rng.uniform(0.14, 0.2)
        back = left[1] + 0.26
        low = (at, back - deep, left[2])
        box(low, (at + thick, back, left[2] + tall), rng.choice(colours), bevel=0.002)
        at += thick + 0.001


def spines(count: int, rng: random.Random) -> list[Any]:
    """Muted colours of books."""
    families = [(0.5, 0.16, 0.1), (0.1, 0.17, 0.24), (0.62, 0.52, 0.34), (0.16, 0.22, 0.17),
                (0.74, 0.7, 0.62), (0.11, 0.1, 0.11), (0.45, 0.27, 0.12)]  # fmt: skip
    made = []
    for i in range(count):
        base = rng.choice(families)
        shade = rng.uniform(0.7, 1.25)
        made.append(surface(f"spine{i}", tuple(min(c * shade, 1) for c in base), rough=0.7))
    return made


def sofa(middle: Place, width: float, material: Any, cushions: list[Any]) -> None:
    """A sofa that faces the camera."""
    x, y, z = middle
    half = width / 2
    box((x - half, y - 0.42, z + 0.12), (x + half, y + 0.42, z + 0.42), material, bevel=0.06)
    box((x - half, y + 0.2, z + 0.3), (x + half, y + 0.46, z + 0.8), material, bevel=0.09)
    for side in (-1, 1):
        edge = x + side * half
        box((edge - 0.12, y - 0.44, z + 0.12), (edge + 0.12, y + 0.44, z + 0.6), material,
            bevel=0.07)  # fmt: skip
    for i, cushion in enumerate(cushions):
        cx = x + (i - (len(cushions) - 1) / 2) * width * 0.62 / max(len(cushions) - 1, 1)
        thing = box((cx - 0.22, y + 0.02, z + 0.44), (cx + 0.22, y + 0.18, z + 0.84), cushion,
                    bevel=0.075)  # fmt: skip
        thing.rotation_euler = (-0.22, 0.06 * (-1) ** i, 0.1 * (-1) ** i)


def lamp(
    foot: Place, height: float, *, power: float = 40, warm: Colour = (1.0, 0.72, 0.42)
) -> None:
    """A floor or table lamp with a shade of cloth."""
    metal = surface("metal", (0.08, 0.07, 0.06), rough=0.35)
    rod(foot, 0.13, 0.02, metal)
    rod(foot, 0.012, height, metal)
    cloth = glowing("cloth", warm, 3.2)
    rod((foot[0], foot[1], foot[2] + height - 0.08), 0.19, 0.26, cloth, top=0.14)
    light((foot[0], foot[1], foot[2] + height + 0.3), power, warm, radius=0.1)


def light(where: Place, power: float, colour: Colour, *, radius: float = 0.1) -> None:
    """A light without a body."""
    bpy.ops.object.light_add(type="POINT", location=where)
    bulb = bpy.context.object.data
    bulb.energy, bulb.color, bulb.shadow_soft_size = power, colour, radius


def panel(
    middle: Place, towards: Place, size: tuple[float, float], power: float, colour: Colour
) -> None:
    """A rectangular light that shines towards a direction: a window's sky, or a ceiling's."""
    from mathutils import Vector

    bpy.ops.object.light_add(type="AREA", location=middle)
    thing = bpy.context.object
    thing.rotation_euler = Vector(towards).to_track_quat("-Z", "Y").to_euler()
    lit = thing.data
    lit.shape, lit.size, lit.size_y = "RECTANGLE", *size
    lit.energy, lit.color = power, colour
    thing.visible_camera = False


def sun(towards: Place, power: float, colour: Colour = (1.0, 0.9, 0.75)) -> None:
    """Sunlight that travels along a direction."""
    from mathutils import Vector

    bpy.ops.object.light_add(type="SUN")
    thing = bpy.context.object
    thing.rotation_euler = Vector(towards).to_track_quat("-Z", "Y").to_euler()
    thing.data.energy, thing.data.color, thing.data.angle = power, colour, 0.012


def frame_grid(
    low: Place, high: Place, columns: int, rows: int, material: Any, *, bar: float = 0.035
) -> None:
    """Bars of a window that stands in the plane y = low[1], or in x = low[0] where it is flat."""
    flat = abs(high[0] - low[0]) < abs(high[1] - low[1])
    along = 1 if flat else 0
    for i in range(columns + 1):
        at = low[along] + (high[along] - low[along]) * i / columns
        if flat:
            box((low[0] - bar / 2, at - bar / 2, low[2]), (low[0] + bar / 2, at + bar / 2, high[2]),
                material)  # fmt: skip
        else:
            box((at - bar / 2, low[1] - bar / 2, low[2]), (at + bar / 2, low[1] + bar / 2, high[2]),
                material)  # fmt: skip
    for i in range(rows + 1):
        z = low[2] + (high[2] - low[2]) * i / rows
        half = bar / 2
        if flat:
            box((low[0] - half, low[1], z - half), (low[0] + half, high[1], z + half), material)
        else:
            box((low[0], low[1] - half, z - half), (high[0], low[1] + half, z + half), material)


def picture(low: Place, high: Place, rng: random.Random, paints: list[Any], frame: Any) -> None:
    """A framed picture on the back wall: a few soft shapes on paper."""
    x0, y, z0 = low
    x1, _, z1 = high
    box((x0, y - 0.03, z0), (x1, y, z1), frame, bevel=0.003)
    paper = surface("paper", (0.85, 0.82, 0.76), rough=0.9)
    box((x0 + 0.025, y - 0.034, z0 + 0.025), (x1 - 0.025, y - 0.02, z1 - 0.025), paper, bevel=0)
    wide, tall = x1 - x0, z1 - z0
    for i, paint in enumerate(paints):
        cx = x0 + wide * rng.uniform(0.35, 0.65)
        cz = z0 + tall * (0.3 + 0.4 * i / max(len(paints) - 1, 1))
        thing = rod((cx, y - 0.036 - 0.001 * i, cz), wide * rng.uniform(0.12, 0.24), 0.002, paint)
        thing.rotation_euler = (math.pi / 2, 0, 0)
        thing.scale[1] = rng.uniform(0.6, 1.2)
