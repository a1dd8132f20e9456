"""The command line: `python -m train COMMAND`, each with its own `--help`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from train.errors import TrainError, UsageError

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 usage, 3 recipe."""
    parser = build_parser()
    options = parser.parse_args(argv)
    options.argv = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        return _command(options.command)(options)
    except TrainError as error:
        print(f"train: {error}", file=sys.stderr)
        if error.hint:
            print(f"       {error.hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    """The function that runs a command; torch is imported here, so that `--help` needs none."""
    try:
        from train import commands
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{error.name} is not installed", hint="Run pip install -e '.[train]'."
        ) from error
    run: Callable[[argparse.Namespace], int] = getattr(commands, f"run_{name}")
    return run


def build_parser() -> argparse.ArgumentParser:
    """Every command and flag."""
    parser = argparse.ArgumentParser(
        prog="python -m train", description="From photographs and mattes to weights."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_prepare(commands)
    _add_sets(commands)
    _add_label(commands)
    _add_doubts(commands)
    _add_fit(commands)
    _add_export(commands)
    _add_personal(commands)
    _add_film(commands)
    _add_evaluate(commands)
    return parser


def _add_prepare(commands: Commands) -> None:
    told = commands.add_parser("prepare", help="check a dataset and split it into a manifest")
    told.add_argument(
        "sources", type=Path, nargs="+", metavar="SOURCE", help="AISegment, img/ + mask/, or .csv"
    )
    told.add_argument("-o", "--output", type=Path, required=True, metavar="MANIFEST.csv")
    told.add_argument("--validation", type=_share, default=0.1, metavar="SHARE", help="default 0.1")
    told.add_argument(
        "--shards", type=Path, metavar="FOLDER", help="also pack the training split into .tar files"
    )
    told.add_argument("--shard-size", type=int, default=1000, metavar="PAIRS")


def _add_sets(commands: Commands) -> None:
    told = commands.add_parser("sets", help="manifests of many sources: learnt from, kept out")
    told.add_argument("folder", type=Path, metavar="FOLDER", help="portraits/, people/, rooms/, …")
    told.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")


def _add_label(commands: Commands) -> None:
    told = commands.add_parser("label", help="make mattes for pictures with other models")
    told.add_argument("folder", type=Path, metavar="FOLDER", help="pictures")
    told.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    told.add_argument(
        "-m",
        "--model",
        action="append",
        required=True,
        metavar="FILE=WEIGHT",
        help=".onnx, .tflite or .xml and how much it counts, any number of times",
    )
    told.add_argument(
        "--truth",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="FOLDER has img/ and mask/; its mattes stay this part of the result",
    )
    told.add_argument(
        "--stretch",
        type=float,
        default=1.0,
        metavar="X",
        help="make the mean this much steeper about a half; 1.6 is good for three models or more",
    )


def _add_doubts(commands: Commands) -> None:
    told = commands.add_parser("doubts", help="list mattes that other models disagree with")
    told.add_argument("folder", type=Path, metavar="FOLDER", help="img/ and mask/, or a manifest")
    told.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.csv")
    told.add_argument(
        "-m", "--model", action="append", required=True, metavar="FILE=WEIGHT", help="as in label"
    )
    told.add_argument("--sheet", type=Path, metavar="FILE", help="picture of the worst hundred")


def _add_fit(commands: Commands) -> None:
    told = commands.add_parser("fit", help="train what a recipe says")
    told.add_argument("recipe", type=Path, metavar="RECIPE", help="a .toml file, or small, full, …")
    told.add_argument("--data", type=Path, default=Path(), metavar="FOLDER", help="of its paths")
    told.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="default runs/NAME")
    told.add_argument("--resume", action="store_true", help="go on where it stopped")
    told.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda")
    told.add_argument("--threads", type=int, metavar="N", help="of torch, on a CPU")
    told.add_argument("--workers", type=int, default=1, metavar="N", help="processes making views")
    told.add_argument("--tensorboard", action="store_true", help="write its figures too")


def _add_export(commands: Commands) -> None:
    told = commands.add_parser("export", help="turn a checkpoint into weights for the program")
    told.add_argument(
        "checkpoints", type=Path, nargs="+", metavar="CHECKPOINT", help="several are averaged"
    )
    told.add_argument(
        "-o", "--output", type=Path, required=True, metavar="STEM", help="path without extension"
    )
    told.add_argument(
        "--calibrate", type=Path, metavar="FOLDER", help="training img/ and mask/, for int8"
    )
    told.add_argument("--onnx", action="store_true", help="write .onnx too")
    told.add_argument(
        "--compact", action="store_true", help="kernels of .safetensors as int8: half the size"
    )
    told.add_argument(
        "--even",
        action="store_true",
        help="on those pictures, let no more of the room through than of the person is lost",
    )


def _add_personal(commands: Commands) -> None:
    told = commands.add_parser("personal", help="go on with a take of `vcam personalise`")
    told.add_argument("take", type=Path, metavar="TAKE", help="a folder of STEP_MILLISECONDS.jpg")
    told.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="empty")
    told.add_argument("--rooms", type=Path, required=True, metavar="FOLDER", help="strange rooms")
    told.add_argument("--portrait", type=Path, required=True, metavar="FILE", help="of a stranger")
    told.add_argument("--seconds", type=float, default=420, metavar="S", help="of learning")
    told.add_argument("--threads", type=int, default=2, metavar="N", help="of torch")


def _add_film(commands: Commands) -> None:
    told = commands.add_parser("film", help="make clips of a fixed webcam, with their true alpha")
    told.add_argument("people", type=Path, metavar="MANIFEST", help="or a folder, img/ and mask/")
    told.add_argument("--rooms", type=Path, required=True, metavar="MANIFEST", help="or a folder")
    told.add_argument("--split", default="report", choices=("choose", "report", "train"))
    told.add_argument("--count", type=int, default=14, metavar="N")
    told.add_argument("--seconds", type=float, default=6.6, metavar="N", help="of each")
    told.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")


def _add_evaluate(commands: Commands) -> None:
    told = commands.add_parser("evaluate", help="figures of models on pictures and clips")
    told.add_argument(
        "folder", type=Path, metavar="FOLDER", help="validation img/ and mask/, or a manifest"
    )
    told.add_argument(
        "--split", default="report", choices=("choose", "report", "train"), help="of manifests"
    )
    told.add_argument(
        "--rooms", type=Path, metavar="FOLDER", help="rooms without people, or their manifest"
    )
    told.add_argument(
        "--held", action="store_true", help="also hold things before the chests of these people"
    )
    told.add_argument(
        "--clips", type=Path, metavar="FOLDER", help="every NAME.mp4 with a NAME_alpha.mkv"
    )
    told.add_argument(
        "-m",
        "--model",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help=".xml, .onnx or .tflite, any number of times; the shipped model when none is given",
    )
    told.add_argument(
        "--way",
        action="append",
        choices=("network", "still", "live", "unlearnt"),
        default=None,
        help="the network alone, or as the program treats pictures, clips, or clips of which it "
        "learns no room; default network",
    )
    told.add_argument(
        "--peer", type=Path, action="append", default=[], metavar="FILE", help="network alone"
    )
    told.add_argument(
        "--clip", type=Path, nargs=2, action="append", default=[], metavar=("CLIP", "ALPHA")
    )
    told.add_argument("--quality", choices=("low", "balanced", "high"), default="balanced")
    told.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    told.add_argument("--card", type=Path, metavar="FILE", help="write the model card")
    told.add_argument(
        "--also",
        type=Path,
        action="append",
        default=[],
        metavar="MANIFEST",
        help="another set that was learnt from, for the card",
    )
    told.add_argument("--recipe", type=Path, metavar="FILE", help="the recipe, for the card")
    told.add_argument("--sheet", type=Path, metavar="FILE", help="picture of the worst mattes")
    told.add_argument(
        "--held-sheet", type=Path, metavar="FILE", help="picture of the held things that are lost"
    )


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share from 0 up to 1")
    return share


if __name__ == "__main__":
    sys.exit(main())
