"""The live preview: composited frames as MJPEG, made only while somebody looks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import cv2
from aiohttp import web

from vcam.control.guards import stamp

if TYPE_CHECKING:
    from vcam.control.runtime import Runtime
    from vcam.frame import SafeFrame

FPS = 10  # enough to see oneself; the camera itself runs at full rate
WIDTH = 640  # pixels
BOUNDARY = "frame"


async def stream(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    """Answer with a picture every 1/`FPS` seconds until the viewer leaves."""
    response = web.StreamResponse(
        headers={"Content-Type": f"multipart/x-mixed-replace; boundary={BOUNDARY}"}
    )
    stamp(response)
    await response.prepare(request)
    last = None
    while True:
        frame = runtime.latest()
        if frame is not None and (last is None or frame.pts != last):
            last = frame.pts
            jpeg = await asyncio.to_thread(encode, frame)
            head = (
                f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            )
            try:
                await response.write(head.encode() + jpeg + b"\r\n")
            except (ConnectionError, RuntimeError):
                return response
        await asyncio.sleep(1 / FPS)


def encode(frame: SafeFrame) -> bytes:
    """Turn a frame into a small JPEG."""
    image = cv2.cvtColor(frame.data, cv2.COLOR_YUV2BGR_I420)
    if frame.width > WIDTH:
        size = (WIDTH, round(WIDTH * frame.height / frame.width))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return jpeg.tobytes()
