"""The model card: origin of the weights, figures, known failures."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from train.errors import DataError
from train.figures import proofs
from train.figures.evaluate import table
from train.figures.result import Result
from train.recipe import Recipe

WORST = 8  # pictures named under the known failures
ROOMS_AND_THINGS = (
    "Empty rooms: mean share taken for a person, part of the rooms of which more than 1 % is, part "
    "that shows nothing. Held things are drawn before the chest: mean share of them that is lost, "
    "part of the people in whom more than a tenth of the thing is."
)


def write_card(
    path: Path,
    results: list[Result],
    *,
    weights: list[Path],
    manifest: Mapping[str, Mapping[str, str]],
    also: Mapping[str, Sequence[Mapping[str, str]]] | None = None,
    recipe: Recipe | None,
    recipe_text: str,
    command: str,
) -> None:
    """Write what is known about the model of `results[0]`; the others stand beside it.

    `manifest` tells of the pictures that were evaluated on, `also` of other sets, by name.

    Raises:
        DataError: the card cannot be written.
    """
    subject = results[0]
    name = recipe.name if recipe else subject.name
    parts = [f"# {name}"]
    if recipe and recipe.card.about:
        parts.append(recipe.card.about.strip())
    parts.append(_files(weights))
    parts.append("## Figures\n\n" + _figures(results, command))
    if subject.buckets:
        parts.append("## By kind of picture\n\n" + _by_bucket(results))
    if manifest:
        parts.append("## Data\n\n" + _provenance(manifest))
    parts += [_origins(name, rows) for name, rows in (also or {}).items()]
    parts.append("## Known failures\n\n" + _failures(subject, recipe))
    if recipe_text:
        parts.append(f"## Recipe\n\n```toml\n{recipe_text.strip()}\n```")
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(
            f"{path}: cannot be written: {error.strerror}", hint="Choose another path for --card."
        ) from error


def _files(weights: list[Path]) -> str:
    lines = ["| file | bytes | SHA-256 |", "|---|---:|---|"]
    for path in weights:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(f"| {path.name} | {path.stat().st_size} | `{digest}` |")
    return "\n".join(lines)


def _figures(results: list[Result], command: str) -> str:
    costs = [
        f"- {result.name}: {result.milliseconds:.1f} ms of one core for one run of the network"
        for result in results
        if result.milliseconds is not None
    ]
    explained = (
        "mIoU, person IoU and its 5th percentile (p5); boundary F within 0.75 % of the diagonal; "
        "MAD; leak is the part of the room taken for person, cut the part of the person lost; on "
        "clips dtSSD and flicker. All at a threshold of 0.5, on pictures kept out of training."
    )
    asked = f"```sh\n{command}\n```"
    parts = [asked, table(results), explained, "\n".join(costs)]
    if shown := proofs.tables(results):
        parts += [shown, ROOMS_AND_THINGS]
    return "\n\n".join(parts)


def _by_bucket(results: list[Result]) -> str:
    lines = ["| pictures | model | n | mIoU | boundary | leak | cut |", "|---" * 7 + "|"]
    for bucket in results[0].buckets:
        for result in results:
            row = result.buckets.get(bucket)
            if row:
                lines.append(
                    f"| {bucket} | {result.name} | {row['n']:.0f} | {row['miou']:.4f} | "
                    f"{row['boundary_f']:.3f} | {row['leak']:.4f} | {row['cut']:.4f} |"
                )
    return "\n".join(lines)


def _provenance(manifest: Mapping[str, Mapping[str, str]]) -> str:
    """Origins of labelled pictures, as the manifest states them."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for row in manifest.values():
        origin = row.get("source", "unknown"), row.get("licence", "") or "not stated"
        counts.setdefault(origin, Counter())[row.get("split", "")] += 1
    lines = ["| source | licence | training | validation |", "|---|---|---:|---:|"]
    for (source, licence), split in sorted(counts.items()):
        held_out = split.total() - split["train"]
        lines.append(f"| {source} | {licence} | {split['train']} | {held_out} |")
    return "\n".join(lines)


def _origins(name: str, rows: Sequence[Mapping[str, str]]) -> str:
    """Origins of one more set of pictures: a line for each licence."""
    learnt = [row for row in rows if row.get("split", "train") == "train"]
    kept_out = Counter(row["split"] for row in rows if row.get("split", "train") != "train")
    told = "".join(f", {count} kept out to {split}" for split, count in sorted(kept_out.items()))
    makers = sorted({row["made_by"] for row in learnt if row.get("made_by")})
    lines = [f"### {name}: {len(learnt)} to learn from{told}"]
    if makers:
        lines.append("Mattes by " + "; ".join(makers) + ".")
    by_licence: dict[str, Counter[str]] = {}
    for row in learnt:
        licence = row.get("licence") or "not stated"
        by_licence.setdefault(licence, Counter())[row.get("source", "unknown")] += 1
    listed = [
        f"- {licence}: " + ", ".join(f"{source} {n}" for source, n in sorted(counts.items()))
        for licence, counts in sorted(by_licence.items())
    ]
    return "\n\n".join([*lines, "\n".join(listed)])


def _failures(subject: Result, recipe: Recipe | None) -> str:
    worst = sorted(subject.pictures.items(), key=lambda item: item[1]["iou"])[:WORST]
    named = [
        f"- {name}: person IoU {row['iou']:.3f}, leak {row['leak']:.3f}, cut {row['cut']:.3f}"
        for name, row in worst
    ]
    said = [recipe.card.limits.strip()] if recipe and recipe.card.limits else []
    told = "The worst of the validation pictures (`--sheet` of the same command shows them):"
    return "\n\n".join([*said, told, "\n".join(named)])
