"""The virtual camera on Linux: our own writer for v4l2loopback, behind pyvirtualcam's interface.

pyvirtualcam's writer hides write errors, takes any device and leaves old modules stuck; ours
takes its place as the library's backend of the same name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyvirtualcam

from vcam.errors import SinkError, VcamError
from vcam.keeper.link import Link, LinkError, kept_device, let_go
from vcam.sinks.file import check
from vcam.sinks.layouts import LAYOUTS
from vcam.sinks.watchers import Consumers, last_holders
from vcam.system import fd_store, paths, v4l2
from vcam.system.devices import LABEL, list_virtual_cameras

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from vcam.frame import SafeFrame

log = logging.getLogger(__name__)

KEPT: Final = "v4l2loopback"  # what the service manager knows the descriptor by
LET_GO: Final = 0.3  # seconds it may take to close what it is told to
AGAIN: Final = 10.0  # seconds after which a keeper that did not come, or ended, is started again
_INSTALL: Final = "Run `vcam doctor` to see what is missing, or install/linux.sh to create one."


class Loopback:
    """A v4l2loopback device open for writing pictures of one size, with no other writer of ours.

    Pictures come as I420 and leave in `layout`, a name in `LAYOUTS`.

    Raises:
        SinkError: none there, not ours to open, fed by another program, or of another size.
    """

    def __init__(self, device: str | None, width: int, height: int, layout: str = "i420") -> None:
        self.path = _find(device)
        self.width, self.height = width, height
        self.layout = LAYOUTS[layout]
        self.size = self.layout.size(width, height)
        self._turned = np.empty(self.size, np.uint8)  # the picture in the device's layout
        if not self._resume():
            self._open()
            try:
                self._claim()
                self._shape()
            except BaseException:
                os.close(self.fd)
                raise
            fd_store.keep(KEPT, self.fd)
        self.consumers = Consumers(self.path, self.fd)

    def _resume(self) -> bool:
        """Go on where the daemon before us stopped, if its descriptor was kept: the same writer."""
        found = fd_store.take(KEPT) or self._from_keeper()
        fitting = [fd for fd in found if self._fits(fd)][:1]
        for fd in found:
            if fd not in fitting:
                os.close(fd)
        if fitting:
            self.fd = fitting[0]
            self.label = v4l2.capabilities(self.fd).card
            log.info("%s was kept open", self.path)
        elif found:
            fd_store.drop(KEPT)
            let_go(paths.runtime_dir())
            time.sleep(LET_GO)
        return bool(fitting)

    def _from_keeper(self) -> list[int]:
        """The descriptor that our keeper has, where no service manager does it or has let go."""
        fd = kept_device(paths.runtime_dir())
        return [] if fd is None else [fd]

    def _fits(self, fd: int) -> bool:
        """True if it is this very device, set as it should be."""
        with contextlib.suppress(OSError):
            now = v4l2.get_format(fd, v4l2.OUTPUT)
            same = os.path.samestat(os.fstat(fd), os.stat(self.path))
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            wanted = (self.width, self.height, self.layout.fourcc)
            return same and (now.width, now.height, now.fourcc) == wanted
        return False

    def _open(self) -> None:
        fd_store.drop(KEPT)  # or it would be taken by ourselves
        self.fd, known = self._look()
        if not known.captures and not known.outputs:
            log.info("%s is stuck, as 0.12 is after some writers; mending it", self.path)
            with contextlib.suppress(OSError):
                v4l2.stream_on(self.fd, v4l2.OUTPUT)
            os.close(self.fd)
            self.fd, known = self._look()
        self.label = known.card
        if not known.loopback:
            os.close(self.fd)
            raise SinkError(
                f"{self.path!r} is not a v4l2loopback device (driver is {known.driver!r})",
                hint="Run `vcam devices` to list virtual cameras.",
            )
        if not known.outputs:
            os.close(self.fd)
            raise self._taken()

    def _look(self) -> tuple[int, v4l2.Capabilities]:
        fd = -1
        try:
            fd = v4l2.open_node(self.path)
            return fd, v4l2.capabilities(fd)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            if error.errno in (errno.EACCES, errno.EPERM):
                raise SinkError(
                    f"no permission to open {self.path}",
                    hint="Run `vcam doctor`; your user has to be in the group video.",
                ) from error
            if error.errno == errno.EBUSY:
                raise self._taken() from error
            raise SinkError(
                f"{self.path!r} cannot be opened: {error.strerror}", hint=_INSTALL
            ) from error

    def _claim(self) -> None:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._taken() from None
        except OSError as error:
            log.debug("%s cannot be locked: %s", self.path, error)

    def _shape(self) -> None:
        """Set the format and see what came of it; a device that is read keeps the size it has."""
        try:
            got = v4l2.set_format(
                self.fd,
                v4l2.OUTPUT,
                self.width,
                self.height,
                self.layout.fourcc,
                size=self.size,
            )
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EINVAL):
                raise SinkError(
                    f"{self.path!r} refuses {self.width}x{self.height}: {error.strerror}",
                    hint=_INSTALL,
                ) from error
            now = None
            with contextlib.suppress(OSError):
                now = v4l2.get_format(self.fd, v4l2.OUTPUT)
            if now is not None and (now.width, now.height, now.fourcc) != (
                self.width,
                self.height,
                self.layout.fourcc,
            ):
                raise self._other_size(now) from error
            raise self._taken() from error
        if (got.width, got.height, got.fourcc) != (self.width, self.height, self.layout.fourcc):
            raise self._other_size(got)
        # 0.15 answers EINVAL and takes write() all the same; older ones are stuck later without.
        with contextlib.suppress(OSError):
            v4l2.stream_on(self.fd, v4l2.OUTPUT)

    def _other_size(self, now: v4l2.PixelFormat) -> SinkError:
        return SinkError(
            f"{self.path!r} stays at {now.width}x{now.height} {now.fourcc} while programs read it, "
            f"expected {self.width}x{self.height} {self.layout.fourcc}",
            hint="Close the programs that use the camera, or set output.width, output.height and "
            "output.format.",
        )

    def _taken(self) -> SinkError:
        held = last_holders(self.path)
        names = ", ".join(f"{h.name} ({h.pid})" for h in held if h.pid != os.getpid())
        return SinkError(
            f"{self.path!r} is busy: another program feeds it already"
            + (f", open in {names}" if names else ""),
            hint="Stop the other program; only one can feed a virtual camera.",
        )

    def announce(self, fps: float) -> None:
        """Tell programs that this many pictures come a second; 30 where nobody says so.

        Set by the writer: what a reader sets would on 0.15 hold for all who come after it.
        """
        with contextlib.suppress(OSError):
            v4l2.set_rate(self.fd, v4l2.OUTPUT, fps)

    def write(self, picture: NDArray[np.uint8]) -> None:
        """Show one picture, I420.

        Raises:
            SinkError: the device is gone or took less than a picture.
        """
        data = self.layout.arranged(picture.reshape(-1, self.width), self._turned)
        try:
            taken = os.write(self.fd, data.data)
        except OSError as error:
            raise SinkError(
                f"{self.path!r} cannot be written: {error.strerror}", hint=_INSTALL
            ) from error
        if taken != data.size:
            raise SinkError(f"{self.path!r} took {taken} of {data.size} bytes", hint=_INSTALL)

    def close(self) -> None:
        """Close the device; programs that read it keep waiting for the next writer."""
        if self.fd < 0:
            return
        self.consumers.close()
        fd, self.fd = self.fd, -1
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _find(device: str | None) -> str:
    """The device that was named, or the one with our label."""
    if device is not None:
        if Path(device).exists():
            return device
        raise SinkError(
            f"{device!r} does not exist", hint="Run `vcam devices` to list virtual cameras."
        )
    virtual = list_virtual_cameras()
    for camera in virtual:
        if camera.ours:
            return camera.path
    others = ", ".join(f"{camera.name} ({camera.path})" for camera in virtual)
    raise SinkError(
        f"there is no virtual camera named {LABEL!r}" + (f", only {others}" if others else ""),
        hint=_INSTALL,
    )


class Backend:
    """pyvirtualcam's interface to `Loopback`; `opened` hands over a device that is open."""

    def __init__(
        self,
        *,
        width: int,
        height: int,
        fps: float,
        fourcc: int,
        device: str | None,
        opened: Loopback | None = None,
        **_: Any,
    ) -> None:
        i420 = pyvirtualcam.util.encode_fourcc("I420")
        if fourcc != i420:
            raise ValueError("expected pyvirtualcam.PixelFormat.I420: nothing is converted here")
        self._loopback = opened or Loopback(device, width, height)
        self._fourcc = i420

    def send(self, frame: NDArray[np.uint8]) -> None:
        """Show one picture, 1-D I420."""
        self._loopback.write(frame)

    def close(self) -> None:
        """Close the device."""
        self._loopback.close()

    def device(self) -> str:
        """The device's path."""
        return self._loopback.path

    def native_fourcc(self) -> int:
        """The layout the device was set to."""
        return int(self._fourcc)


pyvirtualcam.register_backend("v4l2loopback", Backend)


class V4L2LoopbackSink:
    """Shows frames on the v4l2loopback device labelled "VBG Camera", or on `device`.

    One writer; `watchers` may be asked from any thread. The keeper has the device open as well, and
    shows the card there when this process ends in mid-call.
    """

    kind = "v4l2loopback"

    def __init__(
        self, device: str | None, width: int, height: int, fps: float, layout: str = "i420"
    ) -> None:
        self._device, self._layout = device, layout
        self.name = f"{LABEL} ({device})" if device else LABEL
        self.width, self.height, self.fps = width, height, fps
        self._camera: Any = None
        self._loopback: Loopback | None = None
        self._watched = False  # when somebody asked last
        self._beside = threading.Lock()  # held by who speaks to the keeper, which takes its time
        self._spare: Link | None = None  # the keeper, which has a copy of the descriptor
        self._held: tuple[SafeFrame, float] | None = None  # the card it is to show
        self._tried = 0.0  # when it was reached last
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        loopback = Loopback(self._device, self.width, self.height, self._layout)
        loopback.announce(self.fps)
        self.name = f"{loopback.label} ({loopback.path})"
        self._camera = pyvirtualcam.Camera(
            self.width,
            self.height,
            self.fps,
            fmt=pyvirtualcam.PixelFormat.I420,
            device=loopback.path,
            backend="v4l2loopback",
            opened=loopback,
        )
        self._loopback = loopback
        return self

    def write(self, frame: SafeFrame) -> None:
        """Show `frame`; the kernel has copied it when this returns."""
        check(frame, self.width, self.height)
        if self._camera is None:
            raise SinkError(f"{self.name} is not open")
        self._camera.send(frame.data)

    def hold(self, card: SafeFrame, deadline: float) -> None:
        """Leave the card with the keeper, which is reached off the frame loop."""
        check(card, self.width, self.height)
        self._held = card.copy(), deadline
        self._have_one_stand_by()

    def _have_one_stand_by(self) -> None:
        if self._held is not None:
            self._tried = time.monotonic()
            threading.Thread(
                target=self._stand_by, args=self._held, name="keeper", daemon=True
            ).start()

    def _look_after(self, spare: Link | None) -> None:
        """Have another keeper stand by where the last one is gone, or never came."""
        late = time.monotonic() - self._tried > AGAIN
        if late and (spare is None or spare.ended):
            self._have_one_stand_by()

    def _stand_by(self, card: SafeFrame, deadline: float) -> None:
        """Give the keeper the card, and first of all the device."""
        with self._beside:
            with self._lock:
                loopback, spare, gone = self._loopback, self._spare, None
                if spare is not None and spare.ended:
                    gone, self._spare, spare = spare, None, None
                device = os.dup(loopback.fd) if loopback is not None and spare is None else -1
            if gone is not None:
                gone.close()
            if loopback is None:
                return
            try:
                if spare is None:
                    spare = Link(paths.runtime_dir(), self.width, self.height, loopback.size)
                    loopback.consumers.leave_out(spare.process)
                    spare.attach(self.fps, device)
                spare.hold(
                    loopback.layout.arranged(card.data, np.empty(loopback.size, np.uint8)), deadline
                )
            except (LinkError, OSError, VcamError) as error:
                log.debug("nobody stands by for %s: %s", self.name, error)
            if device >= 0:
                os.close(device)
            with self._lock:
                if self._loopback is loopback:
                    self._spare = spare
                    return
            if spare is not None:  # closed meanwhile
                spare.leave(watched=False)

    def announce(self, fps: float) -> None:
        """Tell programs of another rate."""
        with self._lock:
            self.fps = fps
            if self._loopback is not None:
                self._loopback.announce(fps)

    def watchers(self) -> list[str] | None:
        """Programs that stream from the device now."""
        with self._lock:
            if self._loopback is None:
                return []
            names = self._loopback.consumers.names()
            if self._watched and not names:  # one of them may have set another rate
                self._loopback.announce(self.fps)
            self._watched = bool(names)
            spare = self._spare
        self._look_after(spare)
        return names

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        watched = bool(self.watchers())
        with self._lock:
            self._loopback = None
            spare, self._spare = self._spare, None
        if spare is not None:
            spare.leave(watched=watched)
        if self._camera is not None:
            camera, self._camera = self._camera, None
            camera.close()
