"""Proof of what photographs of people do not ask: empty rooms, held things, clips of rooms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from train.data.datasets import Alpha, Image, Pair, read_image, read_matte
from train.data.manifests import Row, read_room
from train.errors import DataError
from train.views.things import paste, thing

if TYPE_CHECKING:
    from train.figures.result import Result
    from train.subjects import Subject

OVER = 0.01  # a room of which more than this is taken for a person shows furniture
NOTHING = 1e-4  # a room of which less than this is taken for a person shows nothing
HOLE = 0.1  # of a thing: if more of it is taken for the room there is a hole in the body
HELD = ("mug", "phone", "microphone", "book")
HOLDERS = 32  # people before whom each of these is held
REST = re.compile(r"bed|kitchen|bath", re.IGNORECASE)  # kinds of room; the others are lived in
ALL = "all clips"
CLIP_FIGURES = ("miou", "boundary_f", "leak", "cut", "dtssd", "flicker")


def on_rooms(subject: Subject, rooms: Iterable[tuple[Path, Row]]) -> dict[str, dict[str, float]]:
    """Figures on rooms with nobody in them, by kind of room.

    `person` is the mean share taken for a person, `over` the share of rooms of which more than
    `OVER` is, `nothing` the share of those that show nothing at all.

    Raises:
        DataError: a room cannot be read.
    """
    shares: dict[str, list[float]] = {}
    for path, row in rooms:
        share = float((subject.alpha(read_room(path, row)) > 0.5).mean())
        kind = "to rest and cook" if REST.search(row.get("kind", "")) else "to live and work"
        for group in (kind, "all rooms"):
            shares.setdefault(group, []).append(share)
    return {
        group: {
            "n": len(found),
            "person": float(np.mean(found)),
            "over": float(np.mean(np.array(found) > OVER)),
            "nothing": float(np.mean(np.array(found) < NOTHING)),
        }
        for group, found in sorted(shares.items())
    }


def held_things(
    pairs: list[Pair], prints: list[Image]
) -> Iterator[tuple[str, Image, Alpha, NDArray[np.bool_]]]:
    """Draw each of `HELD` before the chest of people: name, picture, true alpha, where it is."""
    step = max(1, len(pairs) // HOLDERS)
    for number, pair in enumerate(pairs[::step][:HOLDERS]):
        image, truth = read_image(pair.image), read_matte(pair.matte)
        body = np.argwhere(truth > 0.9)
        if not len(body):
            continue
        rows = body[:, 0]
        for kind in HELD:
            rng = np.random.default_rng((number, HELD.index(kind)))
            y = rows.min() + rng.uniform(0.62, 0.8) * np.ptp(rows)
            across = body[np.abs(rows - y) < 2, 1]
            x = float(np.median(across)) if len(across) else float(np.median(body[:, 1]))
            size = int(max(10, 0.26 * np.sqrt(len(body))))
            patch, cover = thing(kind, size, prints[number % len(prints)], rng)
            seen, where = paste(image, patch, cover, (x, float(y)), rng.uniform(-15, 15))
            yield f"{pair.image.stem} {kind}", seen, np.maximum(truth, where), where > 0.9


def on_held(
    subject: Subject, pairs: list[Pair], prints: list[Image]
) -> tuple[dict[str, dict[str, float]], list[tuple[str, Image, Alpha, Alpha]]]:
    """Figures on things held before the chest, by kind; and a row each for a sheet, worst first.

    `lost` is the mean share of a thing that is taken for the room, `holes` the share of people in
    whom more than `HOLE` of it is.
    """
    lost: dict[str, list[float]] = {}
    rows = []
    for name, seen, truth, where in held_things(pairs, prints):
        alpha = subject.alpha(seen)
        share = float((alpha[where] < 0.5).mean()) if where.any() else 0.0
        for group in (name.rpartition(" ")[2], "all things"):
            lost.setdefault(group, []).append(share)
        rows.append((share, name, seen, alpha, truth))
    rows.sort(key=lambda row: -row[0])
    figures = {
        group: {
            "n": len(found),
            "lost": float(np.mean(found)),
            "holes": float(np.mean(np.array(found) > HOLE)),
        }
        for group, found in lost.items()
    }
    return figures, [row[1:] for row in rows]


def find_clips(folder: Path) -> list[tuple[Path, Path]]:
    """Every clip NAME.mp4 of a folder that has a NAME_alpha.mkv.

    Raises:
        DataError: there is none.
    """
    clips = [(c, c.with_name(f"{c.stem}_alpha.mkv")) for c in sorted(folder.glob("*.mp4"))]
    found = [both for both in clips if both[1].is_file()]
    if not found:
        raise DataError(
            f"{folder}: holds no NAME.mp4 with a NAME_alpha.mkv", hint="Give a folder of clips."
        )
    return found


def spread_of(clips: dict[str, dict[str, float]]) -> dict[str, float]:
    """The mean of several clips' figures, and the worst leak."""
    mean = {key: float(np.mean([row[key] for row in clips.values()])) for key in CLIP_FIGURES}
    return {
        "n": float(sum(row["n"] for row in clips.values())),
        **mean,
        "worst_leak": max(row["leak"] for row in clips.values()),
    }


def tables(results: list[Result]) -> str:
    """The figures on rooms and on held things as Markdown tables; empty where there are none."""
    parts = []
    if any(result.rooms for result in results):
        heads = "| empty rooms | model | n | person | over 1 % | nothing |"
        parts.append(_table(heads, results, "rooms", (("person", 4), ("over", 3), ("nothing", 3))))
    if any(result.held for result in results):
        heads = "| held before the chest | model | n | lost | holes |"
        parts.append(_table(heads, results, "held", (("lost", 4), ("holes", 3))))
    return "\n\n".join(parts)


def _table(
    heads: str, results: list[Result], which: str, columns: tuple[tuple[str, int], ...]
) -> str:
    lines = [heads, "|---" * (heads.count("|") - 1) + "|"]
    for group in dict.fromkeys(g for result in results for g in getattr(result, which)):
        for result in results:
            row = getattr(result, which).get(group)
            if row:
                cells = " | ".join(f"{row[key]:.{digits}f}" for key, digits in columns)
                lines.append(f"| {group} | {result.name} | {row['n']:.0f} | {cells} |")
    return "\n".join(lines)
