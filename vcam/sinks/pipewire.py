"""A camera for programs that ask PipeWire: no kernel module, no root, libpipewire through ctypes.

Layouts and numbers: https://docs.pipewire.org/page_spa_pod.html and spa/param/*.h, ABI 0.3.
"""

from __future__ import annotations

import ctypes as c
import functools
import json
import logging
import struct
import subprocess
import threading
import time
from ctypes.util import find_library
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from vcam.errors import SinkError
from vcam.foreign_text import plain
from vcam.sinks.file import check
from vcam.system.devices import LABEL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

    from vcam.frame import SafeFrame

log = logging.getLogger(__name__)

ERROR, UNCONNECTED, CONNECTING, PAUSED, STREAMING = -1, 0, 1, 2, 3
CONNECT_WITHIN: Final = 3.0  # seconds until a session has to take the camera in
STARVED: Final = 3.0  # seconds without a free buffer before the stream is made anew
LOOK_EVERY: Final = 5.0  # seconds between looks at who streams

_PROPERTIES: Final = {
    # Without the role Chromium finds nothing.
    "media.class": "Video/Source",
    "media.role": "Camera",
    "node.name": "vbg_camera",
    "node.description": LABEL,
    "node.nick": LABEL,
    "node.virtual": "true",
    "priority.session": "1000",
}

_DIRECTION_OUTPUT, _ANY = 1, 0xFFFFFFFF
_MAP_BUFFERS, _DRIVER = 1 << 2, 1 << 3
_PARAM_FORMAT, _PARAM_ENUM_FORMAT, _PARAM_BUFFERS, _PARAM_META = 4, 3, 5, 6
_OBJECT_FORMAT, _OBJECT_BUFFERS, _OBJECT_META = 0x40003, 0x40004, 0x40005
_META_HEADER, _MEM_FD = 1, 1 << 2
_VIDEO, _RAW, _I420 = 2, 1, 2


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


_FUNCTIONS: Final[dict[str, tuple[Any, list[Any]]]] = {
    "pw_init": (None, [c.c_void_p, c.c_void_p]),
    "pw_thread_loop_new": (c.c_void_p, [c.c_char_p, c.c_void_p]),
    "pw_thread_loop_start": (c.c_int, [c.c_void_p]),
    "pw_thread_loop_get_loop": (c.c_void_p, [c.c_void_p]),
    "pw_thread_loop_lock": (None, [c.c_void_p]),
    "pw_thread_loop_unlock": (None, [c.c_void_p]),
    "pw_thread_loop_stop": (None, [c.c_void_p]),
    "pw_thread_loop_destroy": (None, [c.c_void_p]),
    "pw_properties_new_string": (c.c_void_p, [c.c_char_p]),
    "pw_stream_new_simple": (
        c.c_void_p,
        [c.c_void_p, c.c_char_p, c.c_void_p, c.c_void_p, c.c_void_p],
    ),
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
    """libpipewire, loaded and initialised once."""
    try:
        library = c.CDLL(find_library("pipewire-0.3") or "libpipewire-0.3.so.0")
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise SinkError(
            f"libpipewire-0.3 cannot be loaded: {error}",
            hint="Install PipeWire with your package manager, or set output.sink to v4l2loopback.",
        ) from error
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


class _Stream:
    """One connection to PipeWire, from connect to destroy; has a thread of PipeWire's own."""

    def __init__(self, width: int, height: int, fps: float) -> None:
        self._pw = _library()
        self._width, self._size = width, width * height * 3 // 2
        self.state = UNCONNECTED
        self.node = 0
        self._starved_at: float | None = None
        self.changed = threading.Event()
        self._seq = 0
        # ctypes forgets a callback that nobody refers to, and PipeWire would call into nothing.
        self._callbacks = (
            _STATE_CHANGED(self._state_changed),
            _PARAM_CHANGED(self._param_changed),
            _PROCESS(lambda _: None),
        )
        self._events = _Events(
            version=2,
            state_changed=self._callbacks[0],
            param_changed=self._callbacks[1],
            process=self._callbacks[2],
        )
        self._params: list[Any] = []
        self._loop = self._pw.pw_thread_loop_new(b"vcam-pipewire", None)
        self._stream: int | None = None
        if not self._loop:
            raise SinkError("PipeWire cannot start its thread")
        properties = self._pw.pw_properties_new_string(json.dumps(_PROPERTIES).encode())
        self._stream = self._pw.pw_stream_new_simple(
            self._pw.pw_thread_loop_get_loop(self._loop),
            LABEL.encode(),
            properties,
            c.byref(self._events),
            None,
        )
        if not self._stream:
            self.close()
            raise _no_session()
        offered = self._kept(_offered(width, height, fps))
        result = self._pw.pw_stream_connect(
            self._stream, _DIRECTION_OUTPUT, _ANY, _MAP_BUFFERS | _DRIVER, offered, 1
        )
        if result < 0 or self._pw.pw_thread_loop_start(self._loop) < 0:
            self.close()
            raise _no_session()

    def _kept(self, *pods: bytes) -> Any:
        """An array of pointers to pods that stay in memory as long as the stream."""
        buffers = [c.create_string_buffer(pod, len(pod)) for pod in pods]
        self._params = [*self._params[-6:], *buffers]
        return (c.c_void_p * len(buffers))(*(c.addressof(buffer) for buffer in buffers))

    def _state_changed(self, _: object, old: int, new: int, error: bytes | None) -> None:
        self.state = new
        if new == PAUSED and self._stream:
            self.node = int(self._pw.pw_stream_get_node_id(self._stream))
        if error:
            log.debug("PipeWire: %s", error.decode(errors="replace"))
        self.changed.set()

    def _param_changed(self, _: object, param: int, pod: int | None) -> None:
        if param != _PARAM_FORMAT or not pod or not self._stream:
            return
        buffers = _object(
            _OBJECT_BUFFERS,
            _PARAM_BUFFERS,
            {
                1: _choice(1, 4, 2, 8),
                2: _int(1),
                3: _int(self._size),
                4: _int(self._width),
                6: _choice(4, _MEM_FD, _MEM_FD),
            },
        )
        header = _object(
            _OBJECT_META, _PARAM_META, {1: _id(_META_HEADER), 2: _int(c.sizeof(_Header))}
        )
        self._pw.pw_stream_update_params(self._stream, self._kept(buffers, header), 2)

    @property
    def starved(self) -> bool:
        """True once every buffer has been with the readers for longer than any reader is slow."""
        return self._starved_at is not None and time.monotonic() - self._starved_at > STARVED

    def send(self, data: NDArray[np.uint8]) -> None:
        """Copy a picture into a free buffer and hand it to whoever streams."""
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
            self._fill(c.cast(taken, c.POINTER(_Buffer)).contents.buffer.contents, data)
            # Queued before it is triggered, or the reader gets each picture one interval late.
            self._pw.pw_stream_queue_buffer(self._stream, taken)
            self._pw.pw_stream_trigger_process(self._stream)
        finally:
            self._pw.pw_thread_loop_unlock(self._loop)

    def _fill(self, buffer: _SpaBuffer, data: NDArray[np.uint8]) -> None:
        plane = buffer.datas[0]
        chunk = plane.chunk.contents
        fits = bool(plane.data) and plane.maxsize >= self._size
        if fits:
            c.memmove(plane.data, data.ctypes.data, self._size)
        chunk.offset, chunk.flags = 0, 0
        chunk.size, chunk.stride = (self._size if fits else 0), self._width
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
        self._pw.pw_thread_loop_destroy(self._loop)
        self._loop = None


def _no_session() -> SinkError:
    return SinkError(
        "no PipeWire session answers",
        hint="Run `systemctl --user start pipewire wireplumber`, or leave PipeWire out of "
        "output.sink.",
    )


class PipeWireSink:
    """Shows frames as a camera node of the user's PipeWire session. One writer.

    A server that restarts and a consumer that died with all buffers are noticed: `write` says so,
    and the sink has to be opened anew. The name stays the same.

    Raises:
        SinkError: libpipewire or a running session is missing.
    """

    kind = "pipewire"

    def __init__(self, width: int, height: int, fps: float) -> None:
        self.name = f"{LABEL} (PipeWire)"
        self.width, self.height, self.fps = width, height, fps
        self._stream: _Stream | None = None
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._looked_at = float("-inf")

    def __enter__(self) -> Self:
        self._stream = self._connected()
        return self

    def _connected(self) -> _Stream:
        stream = _Stream(self.width, self.height, self.fps)
        deadline = time.monotonic() + CONNECT_WITHIN
        while stream.state < PAUSED:
            stream.changed.clear()
            left = deadline - time.monotonic()
            if stream.state == ERROR or left <= 0:
                stream.close()
                raise _no_session()
            stream.changed.wait(min(left, 0.1))
        return stream

    def write(self, frame: SafeFrame) -> None:
        """Show `frame` to whoever streams; its pixels are copied when this returns."""
        check(frame, self.width, self.height)
        with self._lock:
            stream = self._stream
            if stream is None:
                raise SinkError(f"{self.name} is not open")
            if stream.state in (ERROR, UNCONNECTED):
                raise SinkError(
                    "PipeWire ended or restarted", hint="It is tried again every few seconds."
                )
            if stream.starved:
                raise SinkError(
                    "a program left with all of PipeWire's buffers",
                    hint="The camera starts anew by itself.",
                )
            stream.send(frame.data)

    def watchers(self) -> list[str] | None:
        """Programs that stream from this node now."""
        stream = self._stream
        if stream is None or stream.state != STREAMING:
            self._names = []
            self._looked_at = float("-inf")
            return []
        now = time.monotonic()
        if now - self._looked_at > (LOOK_EVERY if self._names else 1.0):
            self._looked_at = now
            threading.Thread(
                target=self._look, args=(stream.node,), name="pipewire-names", daemon=True
            ).start()
        return self._names or ["unknown program"]

    def _look(self, node: int) -> None:
        self._names = _linked(node)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


def _linked(node: int) -> list[str]:
    """Names of the programs that `node` is linked to, as pw-dump tells; empty without it."""
    try:
        told = subprocess.run(["pw-dump"], capture_output=True, timeout=3, check=True).stdout
        objects = {entry["id"]: entry.get("info") or {} for entry in json.loads(told)}
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return []
    names = []
    for info in objects.values():
        if info.get("output-node-id") == node:
            props = objects.get(info.get("input-node-id"), {}).get("props") or {}
            client = (objects.get(props.get("client.id"), {}).get("props")) or {}
            names.append(
                client.get("application.name")
                or client.get("application.process.binary")
                or props.get("node.description")
                or props.get("node.name")
                or "unknown program"
            )
    return list(dict.fromkeys(plain(name) for name in names))
