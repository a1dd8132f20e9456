"""The one session that all tests of the desktop share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.desktop.session import Session, missing, session


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s")


@pytest.fixture(scope="session")
def desk(home: Path) -> Iterator[Session]:
    if lacking := missing():
        pytest.skip(f"apt-get install {' '.join(lacking)}")
    with session(home / "d") as running:
        yield running


@pytest.fixture(autouse=True)
def inside(desk: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"):
        monkeypatch.setenv(name, desk.environ[name])
