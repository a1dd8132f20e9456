"""Around a run: signals that end it, progress that is shown, the log that it writes."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into an event; a second one interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def asked(signum: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {s: signal.signal(s, asked) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def progress(shown: bool) -> Iterator[Any]:
    """Give a function that draws how far the epoch is, where somebody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield lambda *args: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("")

        def advance(epoch: int, done: int, total: int, terms: dict[str, float]) -> None:
            text = f"epoch {epoch + 1}, loss {sum(terms.values()):.3f}"
            bar.update(task, completed=done, total=total, description=text)

        yield advance


def keep_lines(path: Path, epochs: int) -> None:
    """Drop the log's lines of epochs that will be run again."""
    if not path.exists():
        return
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    kept = [line for line in lines if json.loads(line)["epoch"] <= epochs]
    path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
