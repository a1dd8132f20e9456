"""Extras: a missing one is asked for by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from train import run
from train.errors import UsageError
from train.weights import export


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)

    with pytest.raises(UsageError, match="NNCF"):
        export.quantise(None, [])
    with pytest.raises(UsageError, match="TensorBoard"):
        run._tensorboard(tmp_path)
