"""The clean system that other tests copy."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from tests.vm import machine

from . import debian


@pytest.mark.skipif(sys.platform != "linux", reason="locks files and enters a root as Linux does")
def test_two_who_want_it_at_once_share_one_whole_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def bootstrap(self: debian.Debian, root: Path) -> None:
        made.append(root)
        root.mkdir()
        time.sleep(0.3)
        (root / "whole").touch()

    monkeypatch.setattr(machine, "cache", lambda: tmp_path)
    monkeypatch.setattr(debian.Debian, "_bootstrap", bootstrap)
    monkeypatch.setattr(debian.Debian, "run", lambda *_, **__: None)
    copies = [tmp_path / name for name in ("one", "two")]

    threads = [threading.Thread(target=debian.Debian, args=(copy,)) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 1
    assert all((copy / "whole").exists() for copy in copies)
