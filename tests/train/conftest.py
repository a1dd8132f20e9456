"""Threads of all training tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny tensors lose more to waiting threads than they gain."""
    torch = pytest.importorskip("torch", reason="needs the extra: pip install -e .[train]")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
