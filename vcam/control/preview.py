"""The live preview: what others see as MJPEG, encoded once for all who look, while they do."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from aiohttp import web

from vcam.control import guards
from vcam.system.memory import mapped_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vcam.control.runtime import Runtime
    from vcam.frame import SafeFrame
    from vcam.room_view import RoomView

FPS: Final = 12  # enough to see oneself; the camera itself runs at full rate
SIZE: Final = (854, 480)  # pixels; larger frames are scaled down to fit
QUALITY: Final = 80
MAX_VIEWERS: Final = 8
BOUNDARY: Final = "frame"
CARD_HEADER: Final = (
    "X-Vcam-Card"  # 1 beside a picture that is the card: no badge says "live" over it
)

Part = tuple[bytes, bool]  # a JPEG, and if it shows the card


class Preview:
    """Encodes what others see while somebody looks. Handlers belong to the control thread."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._viewers: dict[asyncio.Queue[Part], str] = {}
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def views(self) -> list[str]:
        """Names of the views: the composite, and the matte where the daemon shows it."""
        return ["composite", "matte"] if hasattr(self._runtime, "matte") else ["composite"]

    async def stream(self, request: web.Request, view: str) -> web.StreamResponse:
        """Answer with a picture whenever there is a new one, until the viewer leaves."""
        if len(self._viewers) >= MAX_VIEWERS:
            return guards.refusal(503, "Too many windows show the preview.", "Close some of them.")
        response = web.StreamResponse(
            headers={"Content-Type": f"multipart/x-mixed-replace; boundary={BOUNDARY}"}
        )
        guards.stamp(response)
        await response.prepare(request)
        pictures: asyncio.Queue[Part] = asyncio.Queue(1)
        self._join(pictures, view)
        try:
            await response.write(f"--{BOUNDARY}\r\n".encode())
            while True:
                jpeg, is_card = await pictures.get()
                head = (
                    f"Content-Type: image/jpeg\r\n{CARD_HEADER}: {is_card:d}\r\n"
                    f"Content-Length: {len(jpeg)}\r\n\r\n"
                )
                # The boundary follows at once: browsers show a part when they see its end.
                await response.write(head.encode() + jpeg + f"\r\n--{BOUNDARY}\r\n".encode())
        except ConnectionError:
            return response
        finally:
            with self._lock:
                del self._viewers[pictures]

    def _join(self, pictures: asyncio.Queue[Part], view: str) -> None:
        with self._lock:
            self._viewers[pictures] = view
            if self._thread is None:
                loop = asyncio.get_running_loop()
                self._thread = threading.Thread(
                    target=self._encode_while_watched, args=(loop,), name="preview", daemon=True
                )
                self._thread.start()

    def _encode_while_watched(self, loop: asyncio.AbstractEventLoop) -> None:
        shown: dict[str, object] = {}  # view -> what its viewers saw last
        known: set[asyncio.Queue[Part]] = set()
        while True:
            started = time.monotonic()
            with self._lock:
                viewers = dict(self._viewers)
                if not viewers:
                    self._thread = None
                    return
            frame = self._runtime.latest()
            for view in set(viewers.values()):
                looking = [queue for queue, wanted in viewers.items() if wanted == view]
                if frame is None or (shown.get(view) == frame.pts and known.issuperset(looking)):
                    continue
                shown[view] = frame.pts
                part = self._picture(view, frame), frame.is_card
                try:
                    for queue in looking:
                        loop.call_soon_threadsafe(_offer, queue, part)
                except RuntimeError:
                    return  # the doors closed
            known = set(viewers)
            time.sleep(max(0.005, 1 / FPS - (time.monotonic() - started)))

    def _picture(self, view: str, frame: SafeFrame) -> bytes:
        if view == "matte":
            alpha: NDArray[np.uint8] | None = self._runtime.matte()  # type: ignore[attr-defined]
            if alpha is None or frame.is_card:
                alpha = np.zeros((90, 160), np.uint8)
            return jpeg_from(cv2.resize(alpha, SIZE, interpolation=cv2.INTER_LINEAR))
        return encode(frame)


def _offer(queue: asyncio.Queue[Part], part: Part) -> None:
    """Give a viewer the newest picture; one that it has not fetched yet is replaced."""
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(part)


def encode(frame: SafeFrame) -> bytes:
    """Turn a frame into a JPEG that fits into `SIZE`."""
    small = shrunk(frame)
    image = mapped_array(small.shape[0] * 2 // 3, small.shape[1], 3)
    return jpeg_from(cv2.cvtColor(small, cv2.COLOR_YUV2BGR_I420, image))


def png_of(known: NDArray[np.uint8]) -> bytes:
    """A map of the known room, (h, w) uint8, as a PNG."""
    _, data = cv2.imencode(".png", known)
    return data.tobytes()


def jpeg_of_room(view: RoomView) -> bytes:
    """Turn a view of the room into a JPEG, for the answer to the page that asked for it."""
    return jpeg_from(view.bgr)


def shrunk(frame: SafeFrame) -> NDArray[np.uint8]:
    """Scale a frame down plane by plane, before any conversion: a third of the work.

    Shapes:
        returns: (H * 3 // 2, W) uint8 I420 with even sides of at most `SIZE`
    """
    scale = min(1.0, SIZE[0] / frame.width, SIZE[1] / frame.height)
    if scale == 1:
        return frame.data
    old_w, old_h = frame.width, frame.height
    w, h = int(old_w * scale) // 4 * 4, int(old_h * scale) // 4 * 4
    flat = frame.data.reshape(-1)
    small = mapped_array(w * h * 3 // 2)
    at, to = 0, 0
    for (ow, oh), (nw, nh) in (
        ((old_w, old_h), (w, h)),
        ((old_w // 2, old_h // 2), (w // 2, h // 2)),
        ((old_w // 2, old_h // 2), (w // 2, h // 2)),
    ):
        plane = flat[at : at + ow * oh].reshape(oh, ow)
        part = small[to : to + nw * nh].reshape(nh, nw)
        cv2.resize(plane, (nw, nh), part, interpolation=cv2.INTER_LINEAR)
        at, to = at + ow * oh, to + nw * nh
    return small.reshape(h * 3 // 2, w)


def jpeg_from(image: NDArray[np.uint8]) -> bytes:
    """Compress (H, W, 3) BGR or (H, W) grey."""
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1])
