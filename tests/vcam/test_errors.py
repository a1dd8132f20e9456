"""A fault that repeats is told once."""

from __future__ import annotations

import logging

from vcam import errors
from vcam.errors import log_quietly


def test_the_same_fault_is_told_once_a_minute_and_another_one_at_once(caplog, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(errors.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(errors, "_told", {})
    log = logging.getLogger("test")

    def fail(words: str) -> None:
        try:
            raise ValueError(words)
        except ValueError:
            log_quietly(log, "a frame could not be shown")

    for _ in range(50):
        fail("of the wrong size")
    fail("of another kind")
    assert len(caplog.records) == 2

    now[0] += errors.TOLD_AGAIN
    fail("of the wrong size")
    assert len(caplog.records) == 3
