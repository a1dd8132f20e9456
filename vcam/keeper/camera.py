"""One virtual camera of the keeper: its node, what it shows, and the daemon that feeds it."""

from __future__ import annotations

import socket
from collections.abc import Callable

from vcam.keeper.messages import HOLD, RATE, SHOW, STATE, Message
from vcam.keeper.node import ERROR, Node, NodeError
from vcam.keeper.output import Output
from vcam.keeper.pictures import Pictures
from vcam.keeper.standby import Standby

Opener = Callable[[int, int, float, Callable[[], object]], Node]


class Camera:
    """A camera that stays while daemons come and go. Owned by the keeper's only thread.

    `opener` makes its node, which calls `changed` from a thread of its own. Without one the node is
    the device that a daemon brings: it writes there by itself, and the card is shown when it ends.
    """

    def __init__(self, opener: Opener | None, changed: Callable[[], object]) -> None:
        self._opener, self._changed = opener, changed
        self._node: Node | Standby | None = None
        self._output: Output | None = None
        self._size = (0, 0)
        self._fps = 0.0
        self._told: tuple[int, int] | None = None
        self._leaving = False  # as soon as nobody watches
        self.peer: socket.socket | None = None

    @property
    def watched(self) -> bool:
        """True while a program streams."""
        return self._node is not None and self._node.watched

    @property
    def device(self) -> int | None:
        """The descriptor of the device that is kept."""
        return self._node.fd if isinstance(self._node, Standby) else None

    def attach(
        self, peer: socket.socket, message: Message, memory: int, device: Standby | None = None
    ) -> None:
        """Have `peer` feed the camera, whose node is made unless it is there.

        Raises:
            OSError: its memory is not fit to be shared.
        """
        size = message.width, message.height
        pictures = Pictures(message.seq, memory)
        if size != self._size or (self._output is not None and pictures.size != self._output.size):
            self.close()
        if self._output is None:
            self._size = size
            self._output = Output(pictures.size, at_once=self._opener is not None)
        self._output.attach(pictures)
        if device is not None:
            self._part()
            self._node = self._output.target = device
        self.peer, self._told, self._fps = peer, None, message.fps
        self._leaving = False
        if self._node is None:
            self._open()

    def take(self, message: Message) -> None:
        """Do what the daemon asks for."""
        if self._output is None:
            return
        if message.kind == SHOW:
            self._output.show(message)
        elif message.kind == HOLD:
            self._output.hold(message)
        elif message.kind == RATE:
            self._fps = message.fps

    def leave(self, *, watched: bool) -> None:
        """Close the camera, which nobody feeds any more: now, or once nobody watches it either."""
        self._leaving = watched
        if not watched:
            self.close()

    def detach(self) -> None:
        """Go on without the daemon."""
        self.peer = None
        if self._output is not None:
            self._output.detach()

    def tend(self) -> float:
        """Show what is due, mend what broke, tell of changes; seconds until it is time again."""
        node = self._node
        if self._leaving and self.peer is None and not self.watched:
            self.leave(watched=False)
        elif node is not None and (node.lost or node.starved):
            self._part()
            if not node.lost:
                self._open()
        elif node is not None and node.fps != self._fps and not node.watched:
            node.announce(self._fps)
        self._tell()
        return float("inf") if self._output is None else self._output.tend()

    def close(self) -> None:
        """Leave the session, and forget what was shown."""
        self._part()
        if self._output is not None:
            self._output.detach()
            self._output = None
        self._size = (0, 0)

    def _open(self) -> None:
        if self._opener is None:
            return
        try:
            self._node = self._opener(*self._size, self._fps, self._changed)
        except NodeError:
            return
        if self._output is not None:
            self._output.target = self._node

    def _part(self) -> None:
        node, self._node = self._node, None
        if self._output is not None:
            self._output.target = None
        if node is not None:
            node.close()

    def _tell(self) -> None:
        state = (ERROR, 0) if self._node is None else (self._node.state, self._node.id)
        if self.peer is not None and state != self._told:
            self._told = state
            try:
                self.peer.send(Message(STATE, slot=state[0], seq=state[1]).packed())
            except OSError:  # its end is noticed where it is read
                return
