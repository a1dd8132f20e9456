"""Doors that are open for one test, with a home of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.control.doors import Browser, Clock, Page, PlayRuntime
from vcam.client import Client
from vcam.control.server import Doors, serve
from vcam.control.sessions import Sessions
from vcam.system import devices, paths

if TYPE_CHECKING:
    from tests.vcam.driver import Driver


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        folder = tmp_path / name.lower()
        folder.mkdir(mode=0o700)
        monkeypatch.setenv(name, str(folder))
    return tmp_path


@pytest.fixture
def runtime() -> PlayRuntime:
    return PlayRuntime()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(clock: Clock) -> Sessions:
    """Who is signed in at the page's door."""
    return Sessions(clock)


@pytest.fixture
def doors(runtime: PlayRuntime, known: Sessions) -> Iterator[Doors]:
    with serve(runtime, socket_path=paths.socket_path(), sessions=known) as opened:
        yield opened


@pytest.fixture
def client(doors: Doors) -> Client:
    return Client.connect()


@pytest.fixture
def local(doors: Doors) -> Browser:
    return Browser(paths.socket_path())


@pytest.fixture
def page(doors: Doors) -> Page:
    return Page(doors.open_page())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from tests.control import browsing  # a browser is not on every machine

    with browsing.started() as running:
        yield running


@pytest.fixture(params=["light"])
def window(browser: Any, doors: Doors, request: pytest.FixtureRequest) -> Iterator[Any]:
    from tests.control import browsing

    with browsing.signed_in(browser, doors.open_page(), request.param) as opened:
        yield opened


@pytest.fixture
def webcam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: PlayRuntime
) -> Iterator[Driver]:
    """The camera in use, by its name; it has two knobs."""
    if sys.platform != "linux":
        pytest.skip("V4L2 is Linux's")
    from tests.vcam.driver import Driver, plugged_in

    driver = Driver(tmp_path / "video7", {("YUYV", 320, 240): [30.0]})
    camera = devices.CameraInfo("Test Camera", str(driver.path), str(driver.path))
    monkeypatch.setattr(devices, "list_cameras", lambda: [camera])
    runtime.settings.change({"camera": {"source": "Test Camera"}})
    with plugged_in(driver, monkeypatch):
        yield driver
