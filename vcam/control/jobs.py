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

Jobs = queue.SimpleQueue[Callable[[], None]]

WORKERS: Final = 8  # threads for what blocks
FILE_WORKERS: Final = 3  # threads for what may wait for a disk: the others go on meanwhile
_jobs: Jobs = queue.SimpleQueue()
_file_jobs: Jobs = queue.SimpleQueue()


def _work(jobs: Jobs) -> None:
    while True:
        job = jobs.get()
        with contextlib.suppress(Exception):
            job()
        del job  # it holds its answer, which may be a picture of the room, until the next one comes


@functools.cache
def start_workers() -> None:
    """Have threads ready: where memory is short, starting one may wait for ever."""
    for jobs, count in ((_jobs, WORKERS), (_file_jobs, FILE_WORKERS)):
        for _ in range(count):
            threading.Thread(target=_work, args=(jobs,), name="control-aside", daemon=True).start()


async def on_worker(call: Callable[..., T], *args: object) -> T:
    """Run a blocking call on a thread that neither a door nor the program's end waits for."""
    return await _run(_jobs, call, *args)


async def on_file_worker(call: Callable[..., T], *args: object) -> T:
    """The same for what opens pictures and clips, on the few threads that may wait for a share."""
    return await _run(_file_jobs, call, *args)


def aside(call: Callable[[], None]) -> None:
    """Have it done by one of those, whenever one gets to it; nobody hears how it went."""
    start_workers()
    _file_jobs.put(call)


async def _run(jobs: Jobs, call: Callable[..., T], *args: object) -> T:
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
    jobs.put(work)
    return await answer
