"""The command line: `python -m train COMMAND`, each with its own `--help`."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from train.errors import TrainError

if TYPE_CHECKING:
    from train.evaluate import Result


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 usage, 3 recipe."""
    parser = build_parser()
    options = parser.parse_args(argv)
    options.argv = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except TrainError as error:
        print(f"train: {error}", file=sys.stderr)
        if error.hint:
            print(f"       {error.hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Every command and flag."""
    parser = argparse.ArgumentParser(
        prog="python -m train", description="From photographs and mattes to weights."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    prepare = commands.add_parser("prepare", help="check a dataset and split it into a manifest")
    prepare.set_defaults(run=_prepare)
    prepare.add_argument(
        "sources", type=Path, nargs="+", metavar="SOURCE", help="AISegment, img/ + mask/, or .csv"
    )
    prepare.add_argument("-o", "--output", type=Path, required=True, metavar="MANIFEST.csv")
    prepare.add_argument(
        "--validation", type=_share, default=0.1, metavar="SHARE", help="default 0.1"
    )
    prepare.add_argument(
        "--shards", type=Path, metavar="FOLDER", help="also pack the training split into .tar files"
    )
    prepare.add_argument("--shard-size", type=int, default=1000, metavar="PAIRS")

    sets = commands.add_parser("sets", help="manifests of many sources: learnt from, kept out")
    sets.set_defaults(run=_sets)
    sets.add_argument("folder", type=Path, metavar="FOLDER", help="portraits/, people/, rooms/, …")
    sets.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")

    label = commands.add_parser("label", help="make mattes for pictures with other models")
    label.set_defaults(run=_label)
    label.add_argument("folder", type=Path, metavar="FOLDER", help="pictures")
    label.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    label.add_argument(
        "-m",
        "--model",
        action="append",
        required=True,
        metavar="FILE=WEIGHT",
        help=".onnx, .tflite or .xml and how much it counts, any number of times",
    )
    label.add_argument(
        "--truth",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="FOLDER has img/ and mask/; its mattes stay this part of the result",
    )
    label.add_argument(
        "--stretch",
        type=float,
        default=1.0,
        metavar="X",
        help="make the mean this much steeper about a half; 1.6 is good for three models or more",
    )

    doubts = commands.add_parser("doubts", help="list mattes that other models disagree with")
    doubts.set_defaults(run=_doubts)
    doubts.add_argument("folder", type=Path, metavar="FOLDER", help="img/ and mask/, or a manifest")
    doubts.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.csv")
    doubts.add_argument(
        "-m", "--model", action="append", required=True, metavar="FILE=WEIGHT", help="as in label"
    )
    doubts.add_argument("--sheet", type=Path, metavar="FILE", help="picture of the worst hundred")

    fit = commands.add_parser("fit", help="train what a recipe says")
    fit.set_defaults(run=_fit)
    fit.add_argument("recipe", type=Path, metavar="RECIPE", help="a .toml file, or small, full, …")
    fit.add_argument("--data", type=Path, default=Path(), metavar="FOLDER", help="of its paths")
    fit.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="default runs/NAME")
    fit.add_argument("--resume", action="store_true", help="go on where it stopped")
    fit.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda")
    fit.add_argument("--threads", type=int, metavar="N", help="of torch, on a CPU")
    fit.add_argument("--workers", type=int, default=1, metavar="N", help="processes making views")
    fit.add_argument("--tensorboard", action="store_true", help="write its figures too")

    export = commands.add_parser("export", help="turn a checkpoint into weights for the program")
    export.set_defaults(run=_export)
    export.add_argument(
        "checkpoints", type=Path, nargs="+", metavar="CHECKPOINT", help="several are averaged"
    )
    export.add_argument(
        "-o", "--output", type=Path, required=True, metavar="STEM", help="path without extension"
    )
    export.add_argument(
        "--calibrate", type=Path, metavar="FOLDER", help="training img/ and mask/, for int8"
    )
    export.add_argument("--onnx", action="store_true", help="write .onnx too")
    export.add_argument(
        "--compact", action="store_true", help="kernels of .safetensors as int8: half the size"
    )
    export.add_argument(
        "--even",
        action="store_true",
        help="on those pictures, let no more of the room through than of the person is lost",
    )

    evaluate = commands.add_parser("evaluate", help="figures of models on pictures and clips")
    evaluate.set_defaults(run=_evaluate)
    evaluate.add_argument(
        "folder", type=Path, metavar="FOLDER", help="validation img/ and mask/, or a manifest"
    )
    evaluate.add_argument(
        "--split", default="report", choices=("choose", "report", "train"), help="of manifests"
    )
    evaluate.add_argument(
        "--rooms", type=Path, metavar="FOLDER", help="rooms without people, or their manifest"
    )
    evaluate.add_argument(
        "--held", action="store_true", help="also hold things before the chests of these people"
    )
    evaluate.add_argument(
        "--clips", type=Path, metavar="FOLDER", help="every NAME.mp4 with a NAME_alpha.mkv"
    )
    evaluate.add_argument(
        "-m",
        "--model",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help=".xml, .onnx or .tflite, any number of times; the shipped model when none is given",
    )
    evaluate.add_argument(
        "--way",
        action="append",
        choices=("network", "still", "live"),
        default=None,
        help="the network alone, as the program treats pictures, or clips; default network",
    )
    evaluate.add_argument(
        "--peer", type=Path, action="append", default=[], metavar="FILE", help="network alone"
    )
    evaluate.add_argument(
        "--clip", type=Path, nargs=2, action="append", default=[], metavar=("CLIP", "ALPHA")
    )
    evaluate.add_argument("--quality", choices=("low", "balanced", "high"), default="balanced")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    evaluate.add_argument("--card", type=Path, metavar="FILE", help="write the model card")
    evaluate.add_argument(
        "--also",
        type=Path,
        action="append",
        default=[],
        metavar="MANIFEST",
        help="another set that was learnt from, for the card",
    )
    evaluate.add_argument("--recipe", type=Path, metavar="FILE", help="the recipe, for the card")
    evaluate.add_argument("--sheet", type=Path, metavar="FILE", help="picture of the worst mattes")
    evaluate.add_argument(
        "--held-sheet", type=Path, metavar="FILE", help="picture of the held things that are lost"
    )
    return parser


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share from 0 up to 1")
    return share


def _prepare(options: argparse.Namespace) -> int:
    from rich.progress import Progress

    from train.datasets import write_shards
    from train.manifests import find_set
    from train.prepare import prepare

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


def _sets(options: argparse.Namespace) -> int:
    from train.sets import write_sets

    for name, splits in write_sets(options.folder, options.output).items():
        counted = ", ".join(f"{count} {split}" for split, count in sorted(splits.items()))
        print(f"{options.output / name}.csv: {counted}")
    return 0


def _label(options: argparse.Namespace) -> int:
    from train.label import label
    from train.teachers import weighted

    models, told = weighted(options.model), {"truth": options.truth, "stretch": options.stretch}
    count = label(options.folder, options.output, models, **told)
    print(f"{options.output}: {count} mattes")
    return 0


def _doubts(options: argparse.Namespace) -> int:
    from train.doubts import find_doubts, write_doubts
    from train.manifests import find_set
    from train.teachers import weighted

    folder = options.folder
    pairs = find_set(folder.name, folder.parent, "train")
    found = find_doubts(pairs, weighted(options.model))
    write_doubts(options.output, found, sheet=options.sheet)
    print(f"{options.output}: {len(found)} mattes, agreement from {found[0].agreement:.3f}")
    return 0


def _fit(options: argparse.Namespace) -> int:
    import torch

    from train.fit import fit, joined
    from train.recipe import load_recipe

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


def _evaluate(options: argparse.Namespace) -> int:
    from segmentation.engines import weights_dir
    from train import proofs
    from train.augment import walls
    from train.evaluate import Exam, evaluate, table, write_held, write_worst
    from train.manifests import find_rooms, read_room

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
    from train.card import write_card
    from train.evaluate import pictures_of
    from train.manifests import read_manifest
    from train.recipe import find_recipe, load_recipe

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


def _export(options: argparse.Namespace) -> int:
    from train.export import export

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


if __name__ == "__main__":
    sys.exit(main())
