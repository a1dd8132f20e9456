"""A camera in the user's PipeWire session: no kernel module, no root, libpipewire through ctypes.

Layouts and numbers: https://docs.pipewire.org/page_spa_pod.html and spa/param/*.h, ABI 0.3.
"""

from __future__ import annotations

import ctypes as c
import functools
import struct
import time
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:  # to import typing costs a megabyte
    from typing import Any

ERROR, UNCONNECTED, CONNECTING, PAUSED, STREAMING = -1, 0, 1, 2, 3
STARVED = 3.0  # seconds without a free buffer before the stream is made anew

_CLIENT = {
    "application.name": "VBG Camera",
    "application.id": "vbg-camera",
    "application.icon-name": "vbg-camera",
    "application.process.binary": "vcam",
}
_PROPERTIES = {
    # Without the role Chromium finds nothing.
    "media.class": "Video/Source",
    "media.role": "Camera",
    "media.icon-name": "camera-web",
    "device.api": "vcam",
    "node.name": "vbg_camera",
    "node.description": "VBG Camera",
    "node.nick": "VBG Camera",
    "node.virtual": "true",
    "priority.session": "1000",
}

_DIRECTION_OUTPUT, _ANY = 1, 0xFFFFFFFF
_MAP_BUFFERS, _DRIVER = 1 << 2, 1 << 3
_PARAM_FORMAT, _PARAM_ENUM_FORMAT, _PARAM_BUFFERS, _PARAM_META = 4, 3, 5, 6
_OBJECT_FORMAT, _OBJECT_BUFFERS, _OBJECT_META = 0x40003, 0x40004, 0x40005
_META_HEADER, _MEM_FD = 1, 1 << 2
_VIDEO, _RAW, _I420 = 2, 1, 2


class NodeError(Exception):
    """No camera can be had: the library or the session is missing."""


class _Chunk(c.Structure):
    _fields_ = (
        ("offset", c.c_uint32),
        ("size", c.c_uint32),
        ("stride", c.c_int32),
        ("flags", c.c_int32),
    )


class _Data(c.Structure):
    _fields_ = (
        ("type", c.c_uint32),
        ("flags", c.c_uint32),
        ("fd", c.c_int64),
        ("mapoffset", c.c_uint32),
        ("maxsize", c.c_uint32),
        ("data", c.c_void_p),
        ("chunk", c.POINTER(_Chunk)),
    )


class _Meta(c.Structure):
    _fields_ = (("type", c.c_uint32), ("size", c.c_uint32), ("data", c.c_void_p))


class _SpaBuffer(c.Structure):
    _fields_ = (
        ("n_metas", c.c_uint32),
        ("n_datas", c.c_uint32),
        ("metas", c.POINTER(_Meta)),
        ("datas", c.POINTER(_Data)),
    )


class _Buffer(c.Structure):
    _fields_ = (("buffer", c.POINTER(_SpaBuffer)), ("user_data", c.c_void_p), ("size", c.c_uint64))


class _Header(c.Structure):
    _fields_ = (
        ("flags", c.c_uint32),
        ("offset", c.c_uint32),
        ("pts", c.c_int64),
        ("dts", c.c_int64),
        ("seq", c.c_uint64),
    )


_STATE_CHANGED = c.CFUNCTYPE(None, c.c_void_p, c.c_int, c.c_int, c.c_char_p)
_PARAM_CHANGED = c.CFUNCTYPE(None, c.c_void_p, c.c_uint32, c.c_void_p)
_PROCESS = c.CFUNCTYPE(None, c.c_void_p)


class _Hook(c.Structure):
    """Place in a list of listeners; PipeWire's to fill in."""

    _fields_ = (("words", c.c_void_p * 6),)


class _Events(c.Structure):
    _fields_ = (
        ("version", c.c_uint32),
        ("destroy", c.c_void_p),
        ("state_changed", _STATE_CHANGED),
        ("control_info", c.c_void_p),
        ("io_changed", c.c_void_p),
        ("param_changed", _PARAM_CHANGED),
        ("add_buffer", c.c_void_p),
        ("remove_buffer", c.c_void_p),
        ("process", _PROCESS),
        ("drained", c.c_void_p),
        ("command", c.c_void_p),
        ("trigger_done", c.c_void_p),
    )


_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "pw_init": (None, [c.c_void_p, c.c_void_p]),
    "pw_thread_loop_new": (c.c_void_p, [c.c_char_p, c.c_void_p]),
    "pw_thread_loop_start": (c.c_int, [c.c_void_p]),
    "pw_thread_loop_get_loop": (c.c_void_p, [c.c_void_p]),
    "pw_thread_loop_lock": (None, [c.c_void_p]),
    "pw_thread_loop_unlock": (None, [c.c_void_p]),
    "pw_thread_loop_stop": (None, [c.c_void_p]),
    "pw_thread_loop_destroy": (None, [c.c_void_p]),
    "pw_properties_new_string": (c.c_void_p, [c.c_char_p]),
    "pw_context_new": (c.c_void_p, [c.c_void_p, c.c_void_p, c.c_size_t]),
    "pw_context_connect": (c.c_void_p, [c.c_void_p, c.c_void_p, c.c_size_t]),
    "pw_context_destroy": (None, [c.c_void_p]),
    "pw_stream_new": (c.c_void_p, [c.c_void_p, c.c_char_p, c.c_void_p]),
    "pw_stream_add_listener": (None, [c.c_void_p, c.c_void_p, c.c_void_p, c.c_void_p]),
    "pw_stream_connect": (
        c.c_int,
        [c.c_void_p, c.c_int, c.c_uint32, c.c_int, c.c_void_p, c.c_uint32],
    ),
    "pw_stream_update_params": (c.c_int, [c.c_void_p, c.c_void_p, c.c_uint32]),
    "pw_stream_dequeue_buffer": (c.c_void_p, [c.c_void_p]),
    "pw_stream_queue_buffer": (c.c_int, [c.c_void_p, c.c_void_p]),
    "pw_stream_trigger_process": (c.c_int, [c.c_void_p]),
    "pw_stream_get_node_id": (c.c_uint32, [c.c_void_p]),
    "pw_stream_destroy": (None, [c.c_void_p]),
}


@functools.cache
def _library() -> Any:
    """The library, loaded and initialised once."""
    try:
        library = c.CDLL("libpipewire-0.3.so.0")
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise NodeError(f"libpipewire-0.3 cannot be loaded: {error}") from error
    library.pw_init(None, None)
    return library


def _pod(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", len(body), kind) + body + b"\0" * (-len(body) % 8)


def _id(value: int) -> bytes:
    return _pod(3, struct.pack("<I", value))


def _int(value: int) -> bytes:
    return _pod(4, struct.pack("<i", value))


def _choice(kind: int, *values: int) -> bytes:
    """A choice of integers: kind 1 is a range, 4 are flags; the default comes first."""
    return _pod(19, struct.pack("<IIII", kind, 0, 4, 4) + struct.pack(f"<{len(values)}i", *values))


def _object(kind: int, param: int, properties: dict[int, bytes]) -> bytes:
    body = b"".join(struct.pack("<II", key, 0) + value for key, value in properties.items())
    return _pod(15, struct.pack("<II", kind, param) + body)


def _offered(width: int, height: int, fps: float) -> bytes:
    """The one format this camera has."""
    return _object(
        _OBJECT_FORMAT,
        _PARAM_ENUM_FORMAT,
        {
            1: _id(_VIDEO),
            2: _id(_RAW),
            0x20001: _id(_I420),
            0x20003: _pod(10, struct.pack("<II", width, height)),
            0x20004: _pod(11, struct.pack("<II", max(round(fps), 1), 1)),
        },
    )


class Node:
    """One camera in the session, from connect to close; has a thread of PipeWire's own.

    `changed` is called by that thread whenever `state` is another. One thread owns the rest.

    Raises:
        NodeError: the library or the session is missing.
    """

    def __init__(
        self, width: int, height: int, fps: float, changed: Callable[[], object] = lambda: None
    ) -> None:
        self._pw = _library()
        self.width, self.height, self.fps = width, height, fps
        self.size = width * height * 3 // 2
        self.state = UNCONNECTED
        self.id = 0
        self._changed = changed
        self._starved_at: float | None = None
        self._seq = 0
        # ctypes forgets a callback that nobody refers to, and PipeWire would call into nothing.
        self._callbacks = _STATE_CHANGED(self._state_changed), _PARAM_CHANGED(self._param_changed)
        self._events = _Events(
            version=2, state_changed=self._callbacks[0], param_changed=self._callbacks[1]
        )
        self._hook = _Hook()
        self._params: list[Any] = []
        self._stream: int | None = None
        self._context: int | None = None
        self._loop = self._pw.pw_thread_loop_new(b"vcam-pipewire", None)
        if not self._loop or not self._connect():
            self.close()
            raise NodeError("no PipeWire session answers")

    def _connect(self) -> bool:
        """Enter the session. A client of its own, or it would carry the camera's properties."""
        pw = self._pw
        self._context = pw.pw_context_new(pw.pw_thread_loop_get_loop(self._loop), None, 0)
        core = self._context and pw.pw_context_connect(self._context, _properties(_CLIENT), 0)
        if not core:
            return False
        self._stream = pw.pw_stream_new(core, b"VBG Camera", _properties(_PROPERTIES))
        if not self._stream:
            return False
        pw.pw_stream_add_listener(self._stream, c.byref(self._hook), c.byref(self._events), None)
        offered = self._kept(_offered(self.width, self.height, self.fps))
        flags = _MAP_BUFFERS | _DRIVER
        connected = pw.pw_stream_connect(self._stream, _DIRECTION_OUTPUT, _ANY, flags, offered, 1)
        return bool(connected >= 0 and pw.pw_thread_loop_start(self._loop) >= 0)

    def _kept(self, *pods: bytes) -> Any:
        """An array of pointers to pods that stay in memory as long as the stream."""
        buffers = [c.create_string_buffer(pod, len(pod)) for pod in pods]
        self._params = [*self._params[-6:], *buffers]
        return (c.c_void_p * len(buffers))(*(c.addressof(buffer) for buffer in buffers))

    def _state_changed(self, _: object, old: int, new: int, error: bytes | None) -> None:
        if new == PAUSED and self._stream:
            self.id = int(self._pw.pw_stream_get_node_id(self._stream))
        self.state = new
        self._changed()

    def _param_changed(self, _: object, param: int, pod: int | None) -> None:
        if param != _PARAM_FORMAT or not pod or not self._stream:
            return
        buffers = _object(
            _OBJECT_BUFFERS,
            _PARAM_BUFFERS,
            {
                1: _choice(1, 4, 2, 8),
                2: _int(1),
                3: _int(self.size),
                4: _int(self.width),
                6: _choice(4, _MEM_FD, _MEM_FD),
            },
        )
        header = _object(
            _OBJECT_META, _PARAM_META, {1: _id(_META_HEADER), 2: _int(c.sizeof(_Header))}
        )
        self._pw.pw_stream_update_params(self._stream, self._kept(buffers, header), 2)

    @property
    def watched(self) -> bool:
        """True while a program streams."""
        return self.state == STREAMING

    @property
    def lost(self) -> bool:
        """True once PipeWire has ended, restarted, or refused the camera."""
        return self.state in (ERROR, UNCONNECTED)

    @property
    def starved(self) -> bool:
        """True once every buffer has been with the readers for longer than any reader is slow."""
        return self._starved_at is not None and time.monotonic() - self._starved_at > STARVED

    def announce(self, fps: float) -> None:
        """Offer this rate from now on. A call keeps the rate that it was granted: not meanwhile."""
        self.fps = fps
        self._pw.pw_thread_loop_lock(self._loop)
        try:
            offered = self._kept(_offered(self.width, self.height, fps))
            self._pw.pw_stream_update_params(self._stream, offered, 1)
        finally:
            self._pw.pw_thread_loop_unlock(self._loop)

    def send(self, fill: Callable[[int], object]) -> None:
        """Hand a picture to whoever streams: `fill` puts it where a buffer's memory begins."""
        if self.state != STREAMING:
            self._starved_at = None
            return
        self._pw.pw_thread_loop_lock(self._loop)
        try:
            taken = self._pw.pw_stream_dequeue_buffer(self._stream)
            if not taken:
                self._starved_at = self._starved_at or time.monotonic()
                return
            self._starved_at = None
            self._fill(c.cast(taken, c.POINTER(_Buffer)).contents.buffer.contents, fill)
            # Queued before it is triggered, or the reader gets each picture one interval late.
            self._pw.pw_stream_queue_buffer(self._stream, taken)
            self._pw.pw_stream_trigger_process(self._stream)
        finally:
            self._pw.pw_thread_loop_unlock(self._loop)

    def _fill(self, buffer: _SpaBuffer, fill: Callable[[int], object]) -> None:
        plane = buffer.datas[0]
        chunk = plane.chunk.contents
        fits = bool(plane.data) and plane.maxsize >= self.size
        if fits:
            fill(plane.data)
        chunk.offset, chunk.flags = 0, 0
        chunk.size, chunk.stride = (self.size if fits else 0), self.width
        for i in range(buffer.n_metas):
            if buffer.metas[i].type == _META_HEADER and buffer.metas[i].data:
                header = c.cast(buffer.metas[i].data, c.POINTER(_Header)).contents
                header.flags = header.offset = header.dts = 0
                header.pts, header.seq = time.monotonic_ns(), self._seq
        self._seq += 1

    def close(self) -> None:
        """Leave the session; no callback comes after this returns."""
        if not self._loop:
            return
        # The loop's thread ends before anything it may be using does.
        self._pw.pw_thread_loop_stop(self._loop)
        if self._stream:
            self._pw.pw_stream_destroy(self._stream)
            self._stream = None
        if self._context:
            self._pw.pw_context_destroy(self._context)  # and with it the connection
            self._context = None
        self._pw.pw_thread_loop_destroy(self._loop)
        self._loop = None


def _properties(values: dict[str, str]) -> int | None:
    """Properties as PipeWire holds them, which takes them over. No value of ours has quotes."""
    text = " ".join(f'{key} = "{value}"' for key, value in values.items())
    found: int | None = _library().pw_properties_new_string(text.encode())
    return found
