"""The status as server-sent events: once a second, and at once when a setting changes."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from aiohttp import web

from vcam.control.guards import stamp

if TYPE_CHECKING:
    from vcam.control.runtime import Runtime

INTERVAL = 1.0  # seconds between two events while nothing is changed
AT_MOST = 0.05  # seconds between two events while a slider is dragged


async def tell(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    """Answer with `event: status` until the listener leaves; its data is that of `GET /status`."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    stamp(response)
    await response.prepare(request)
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def notice() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(changed.set)

    forget = runtime.settings.observe(notice)
    try:
        while True:
            changed.clear()
            status = await asyncio.to_thread(runtime.status)
            await response.write(b"event: status\ndata: " + json.dumps(status).encode() + b"\n\n")
            await asyncio.sleep(AT_MOST)
            try:
                await asyncio.wait_for(changed.wait(), INTERVAL - AT_MOST)
            except asyncio.TimeoutError:
                continue
    except (ConnectionError, RuntimeError):
        return response
    finally:
        forget()
