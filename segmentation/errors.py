"""Errors of models and engines, each with the sentence that mends it.

SegmentationError
├── ModelError          weights missing, damaged, or not a person model that is understood
│   └── UntrustedError  it answers pictures wrongly whose answer is known
└── EngineError         the engine cannot be opened, or failed on a frame
"""

from __future__ import annotations


class SegmentationError(Exception):
    """A fault of the user's files or machine; `hint` is one imperative sentence."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ModelError(SegmentationError):
    """Weights that are missing, damaged, or do not hold a person model that is understood."""


class UntrustedError(ModelError):
    """A network that does not find the person, or finds one where nobody is."""


class EngineError(SegmentationError):
    """An engine that cannot be opened, or failed on a frame."""
