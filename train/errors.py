"""Faults of a dataset, a recipe or a checkpoint, with the sentence that mends each.

TrainError             exit 1   anything below
├── UsageError         exit 2   the command line makes no sense
├── RecipeError        exit 3   a recipe that says what nobody understands
├── DataError          exit 1   a dataset, a picture, a shard
├── CheckpointError    exit 1   unreadable, of another width, cannot be written
├── NotFiniteError     exit 1   the loss became NaN or infinite; every term is named
└── ExportError        exit 1   an exported model that differs from the network it came from
"""

from __future__ import annotations


class TrainError(Exception):
    """A fault outside the program; `hint` is one imperative sentence."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(TrainError):
    """The command line makes no sense."""

    exit_code = 2


class RecipeError(TrainError):
    """A recipe that cannot be read or says what nobody understands."""

    exit_code = 3


class DataError(TrainError):
    """A dataset, a picture or a shard that cannot be used."""


class CheckpointError(TrainError):
    """A checkpoint that cannot be read, written, or belongs to another network."""


class NotFiniteError(TrainError):
    """The loss became NaN or infinite."""


class ExportError(TrainError):
    """An exported model that differs too much from the network it came from."""
