"""Commands: each takes the options of its command line and returns the exit code."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

import torch
from rich.progress import Progress

from segmentation.engines import weights_dir
from train import personal
from train.data.manifests import find_rooms, find_set, read_manifest, read_room
from train.data.prepare import prepare
from train.data.shards import write_shards
from train.data.sources import write_sets
from train.figures import film, proofs
from train.figures.doubts import find_doubts, write_doubts
from train.figures.evaluate import Exam, evaluate, pictures_of, table, write_held, write_worst
from train.figures.model_card import write_card
from train.figures.result import Result
from train.fit import fit
from train.label import label
from train.place import joined
from train.recipe import find_recipe, load_recipe
from train.views.teachers import weighted
from train.views.walls import walls
from train.weights.export import export


def run_prepare(options: argparse.Namespace) -> int:
    """Check sources and write their manifest."""
    with Progress(transient=True) as bar:
        task = bar.add_task("Looking at pairs", total=None)
        prepared = prepare(
            options.sources,
            options.output,
            validation=options.validation,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    splits = ", ".join(f"{count} {name}" for name, count in sorted(prepared.splits.items()))
    print(f"{prepared.manifest}: {splits}, in {prepared.groups} groups")
    if prepared.left_out:
        listed = prepared.manifest.with_suffix(".left-out.csv")
        print(f"{listed}: {len(prepared.left_out)} left out")
    if options.shards:
        pairs = find_set(prepared.manifest.name, prepared.manifest.parent, "train")
        shards = write_shards(pairs, options.shards, size=options.shard_size)
        print(f"{options.shards}: {len(shards)} shards")
    return 0


def run_sets(options: argparse.Namespace) -> int:
    """Write manifests of many sources."""
    for name, splits in write_sets(options.folder, options.output).items():
        counted = ", ".join(f"{count} {split}" for split, count in sorted(splits.items()))
        print(f"{options.output / name}.csv: {counted}")
    return 0


def run_label(options: argparse.Namespace) -> int:
    """Write mattes that other models make."""
    models, told = weighted(options.model), {"truth": options.truth, "stretch": options.stretch}
    count = label(options.folder, options.output, models, **told)
    print(f"{options.output}: {count} mattes")
    return 0


def run_doubts(options: argparse.Namespace) -> int:
    """List mattes that other models disagree with."""
    folder = options.folder
    pairs = find_set(folder.name, folder.parent, "train")
    found = find_doubts(pairs, weighted(options.model))
    write_doubts(options.output, found, sheet=options.sheet)
    print(f"{options.output}: {len(found)} mattes, agreement from {found[0].agreement:.3f}")
    return 0


def run_fit(options: argparse.Namespace) -> int:
    """Train a recipe; 130 when it was stopped."""
    recipe = load_recipe(options.recipe)
    folder = options.output or Path("runs") / recipe.name
    if options.threads:
        torch.set_num_threads(options.threads)
    with joined(options.device, workers=options.workers, tensorboard=options.tensorboard) as place:
        if fit(recipe, options.data, folder, place, resume=options.resume):
            return 0
        if place.first:
            print(f"Stopped; go on with --resume -o {folder}", file=sys.stderr)
        return 130


def run_personal(options: argparse.Namespace) -> int:
    """Teach the default network on with a take; a JSON line for each step, the verdict last."""
    if options.threads:
        torch.set_num_threads(options.threads)
    personal.end_with(sys.stdin)
    verdict = personal.personalise(
        options.take,
        options.output,
        personal.Stranger(sorted(options.rooms.glob("*.jpg")), options.portrait),
        seconds=options.seconds,
        report=lambda *step: print(json.dumps({"step": step}), flush=True),
    )
    print(verdict.as_json(), flush=True)
    return 0


def run_film(options: argparse.Namespace) -> int:
    """Make clips of a fixed webcam."""
    pairs, _ = pictures_of(options.people, options.split)
    rooms = find_rooms(options.rooms, options.split)
    for scene in film.scenes(pairs, rooms, options.count):
        film.write(scene, options.output, round(options.seconds * film.FPS))
        print(options.output / f"{scene.name}.mp4")
    return 0


def run_evaluate(options: argparse.Namespace) -> int:
    """Print and write figures of models."""
    models = options.model or [weights_dir() / "bisenet-small.xml"]
    ways = options.way or ["network"]
    subjects = [(m, way) for m in models for way in ways] + [(p, "network") for p in options.peer]
    exam = Exam(options.folder, options.split, quality=options.quality)
    exam.clips = [(clip, alpha) for clip, alpha in options.clip]
    exam.clips += proofs.find_clips(options.clips) if options.clips else []
    if options.rooms:
        exam.rooms = find_rooms(options.rooms, options.split)
    if options.held or options.held_sheet:
        prints = exam.rooms[:: max(1, len(exam.rooms) // 8)]
        exam.prints = [read_room(*room) for room in prints] or walls(8)
    results = evaluate(subjects, exam)
    print(table(results), proofs.tables(results), sep="\n\n")
    for result in results:
        if result.milliseconds is not None:
            print(f"{result.name}: {result.milliseconds:.1f} ms of one core a picture")
    if options.json:
        text = json.dumps([result.as_dict() for result in results], indent=1)
        options.json.write_text(text + "\n")
    if options.sheet:
        write_worst(options.sheet, subjects[0], results[0], exam)
    if options.held_sheet:
        write_held(options.held_sheet, subjects[0], exam)
    if options.card:
        _write_card(options, models[0], results)
    return 0


def _write_card(options: argparse.Namespace, model: Path, results: list[Result]) -> None:
    _, manifest = pictures_of(options.folder, options.split)
    write_card(
        options.card,
        results,
        weights=sorted(model.parent.glob(f"{model.stem.removesuffix('-int8')}*[!d]")),
        manifest=manifest,
        also={path.stem: read_manifest(path, ("source", "licence")) for path in options.also},
        recipe=load_recipe(options.recipe) if options.recipe else None,
        recipe_text=find_recipe(options.recipe).read_text() if options.recipe else "",
        command=shlex.join(["python", "-m", "train", *options.argv]),
    )


def run_export(options: argparse.Namespace) -> int:
    """Write the files of weights that the program reads."""
    files = export(
        options.checkpoints,
        options.output,
        calibrate=options.calibrate,
        onnx=options.onnx,
        compact=options.compact,
        even=options.even,
    )
    for file in files:
        iou = "" if file.person_iou is None else f", person IoU {file.person_iou:.4f}"
        print(
            f"{file.path}: {file.size / 1e6:.1f} MB, alpha differs by at most {file.largest:.4f}, "
            f"{file.mean:.5f} on average{iou}"
        )
    return 0
