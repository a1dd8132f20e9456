"""Threads for what blocks, so that the doors' loop never does."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

WORKERS: Final = 8  # threads for what blocks
_jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()


def _work() -> None:
    while True:
        job = _jobs.get()
        with contextlib.suppress(Exception):
            job()
        del job  # it holds its answer, which may be a picture of the room, until the next one comes


@functools.cache
def start_workers() -> None:
    """Have threads ready: where memory is short, starting one may wait for ever."""
    for _ in range(WORKERS):
        threading.Thread(target=_work, name="control-aside", daemon=True).start()


async def aside(call: Callable[..., T], *args: object) -> T:
    """Run a blocking call on a thread that neither a door nor the program's end waits for."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, failure = None, None
        try:
            result = call(*args)
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the doors closed meanwhile
            loop.call_soon_threadsafe(settle, result, failure)

    start_workers()
    _jobs.put(work)
    return await answer
