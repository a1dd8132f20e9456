"""Things that all plans of a segmenter share: the network, streams, a graph pool, host memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch
from torch import Tensor

from segmentation.engines import networks

if TYPE_CHECKING:
    from vcam.gpu.exchange import Exchange

AREA: Final = 512 * 512  # pixels of the network's input; its shape follows the frame


@dataclass(frozen=True)
class Buffers:
    """Memory of the host that a plan's graphs read from and write to, uint8 each."""

    up: tuple[Tensor, Tensor]
    down: tuple[Tensor, Tensor]
    backdrop: Tensor

    @property
    def each(self) -> tuple[Tensor, ...]:
        """All of them, in the order of `Exchange.places`."""
        return (*self.up, *self.down, self.backdrop)


class Host(Protocol):
    """Gives plans their buffers. Owned by the segmenter; called by its builder thread too."""

    def take(self, exchange: Exchange) -> Buffers:
        """Return buffers of these sizes that no other plan has, full of zeros."""
        ...

    def give_back(self, buffers: Buffers) -> None:
        """Take buffers back, from a plan that has run for the last time."""
        ...


class Pinned:
    """Host memory of this process alone, pinned where there is a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._pinned = device.type == "cuda"

    def take(self, exchange: Exchange) -> Buffers:
        """See `Host.take`."""
        sizes = [place.stop - place.start for place in exchange.places]
        made = [torch.zeros(n, dtype=torch.uint8, pin_memory=self._pinned) for n in sizes]
        return Buffers((made[0], made[1]), (made[2], made[3]), made[4])

    def give_back(self, buffers: Buffers) -> None:
        """See `Host.give_back`."""


class Rig:
    """The network of a segmenter and where it runs.

    All graphs are recorded on one stream into one pool, and run on another: a pool's blocks belong
    to a stream, so that whatever is recorded next takes the blocks of what was recorded before.
    Graphs of one rig therefore never run at the same time.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        device: torch.device,
        dtype: torch.dtype,
        *,
        area: int = AREA,
        host: Host | None = None,
    ) -> None:
        self.network, self.head = networks.split(network)
        self.inputs = int(getattr(network, "inputs", 3))  # channels of the picture it takes
        self.told = bool(getattr(network, "room", False))  # some of them are for the learned room
        self.device, self.dtype, self.area = device, dtype, area
        self.host = host or Pinned(device)
        # Sizes the network ran at, that of the frame in its input, and whose kernels were with it.
        self.ran: set[tuple[tuple[int, int], tuple[int, int], str]] = set()
        self.recording: torch.cuda.Stream | None = None
        self.running: torch.cuda.Stream | None = None
        self.pool: Any = None
        if device.type == "cuda":
            self.recording = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self.running = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self.pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def on(self, stream: torch.cuda.Stream | None) -> Iterator[None]:
        """Put work on `stream`, without gradients; None is the processor."""
        with torch.inference_mode():
            if stream is None:
                yield
            else:
                with torch.cuda.stream(stream):
                    yield
