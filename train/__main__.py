"""The command line: `python -m train prepare | fit RECIPE | evaluate | export`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from train.errors import TrainError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 usage, 3 recipe."""
    parser = build_parser()
    options = parser.parse_args(argv)
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

    export = commands.add_parser("export", help="turn a checkpoint into weights for the program")
    export.set_defaults(run=_export)
    export.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    export.add_argument(
        "-o", "--output", type=Path, required=True, metavar="STEM", help="path without extension"
    )
    export.add_argument(
        "--calibrate", type=Path, metavar="FOLDER", help="training img/ and mask/, for int8"
    )
    return parser


def _export(options: argparse.Namespace) -> int:
    from train.export import export

    for file in export(options.checkpoint, options.output, calibrate=options.calibrate):
        iou = "" if file.person_iou is None else f", person IoU {file.person_iou:.4f}"
        print(
            f"{file.path}: {file.size / 1e6:.1f} MB, alpha differs by at most {file.largest:.4f}, "
            f"{file.mean:.5f} on average{iou}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
