"""Place of a run: its process among others, its device, the signals that end it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

CPU = torch.device("cpu")


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


@dataclass(frozen=True, slots=True)
class Place:
    """This process among its peers, its device and its helpers."""

    rank: int = 0
    world: int = 1
    device: torch.device = CPU
    workers: int = 1
    tensorboard: bool = False
    resident: bool = False  # pictures lie in the device's memory and views are made there

    @property
    def first(self) -> bool:
        """True if this process writes files and talks."""
        return self.rank == 0


@contextlib.contextmanager
def joined(device: str, *, workers: int, tensorboard: bool = False) -> Iterator[Place]:
    """Join the other processes that `torchrun` started, and leave them at the end."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_RANK", 0))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device, local) if device == "cuda" else torch.device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if world > 1:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Place(rank, world, chosen, workers, tensorboard, chosen.type == "cuda")
    finally:
        if world > 1:
            dist.destroy_process_group()
