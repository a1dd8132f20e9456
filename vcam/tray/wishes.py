"""Wishes: what a click in the tray's menu asks of the daemon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from vcam.client import PageFile, browser
from vcam.errors import DaemonError


class Daemon(Protocol):
    """The part of `vcam.client.Client` the tray needs."""

    def status(self) -> dict[str, Any]: ...
    def settings(self) -> dict[str, Any]: ...
    def change(self, changes: dict[str, dict[str, Any]]) -> Any: ...
    def presets(self) -> list[dict[str, Any]]: ...
    def thumbnail(self, name: str) -> bytes: ...
    def use(self, name: str) -> Any: ...
    def step(self, step: int) -> Any: ...
    def show_room(self, *, by: str) -> Any: ...
    def hide(self) -> Any: ...
    def pause(self, back_in: float | None = None) -> Any: ...
    def resume(self) -> Any: ...
    def toggle(self) -> Any: ...
    def freeze(self) -> Any: ...
    def stop(self) -> Any: ...
    def open_page_file(self, folder: Path) -> PageFile: ...


def open_page(daemon: Daemon) -> None:
    if not browser.show(browser.page_file(daemon).file):
        raise DaemonError(
            "No browser could be started.", hint="Run `vcam open` in a terminal for the address."
        )


def pause(back_in: float | None = None) -> Callable[[Daemon], Any]:
    """Show the card, which counts that many seconds down."""
    return lambda daemon: daemon.pause(back_in)


def resume(daemon: Daemon) -> Any:
    return daemon.resume()


def toggle(daemon: Daemon) -> Any:
    return daemon.toggle()


def freeze(daemon: Daemon) -> Any:
    return daemon.freeze()


def stop(daemon: Daemon) -> Any:
    return daemon.stop()


def changes(section: str, key: str, value: object) -> Callable[[Daemon], Any]:
    return lambda daemon: daemon.change({section: {key: value}})


def uncover(daemon: Daemon) -> Any:
    return daemon.show_room(by="tray")


def hide(daemon: Daemon) -> Any:
    return daemon.hide()


def step(step: int) -> Callable[[Daemon], Any]:
    return lambda daemon: daemon.step(step)


def use(name: str) -> Callable[[Daemon], Any]:
    return lambda daemon: daemon.use(name)


def blur(strength: int) -> Callable[[Daemon], Any]:
    return lambda daemon: daemon.change({"background": {"use": "blur", "blur": strength}})
