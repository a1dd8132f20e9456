"""The daemon's doors: a small HTTP API on a unix socket and, once asked for, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from vcam import backgrounds
from vcam.control import guards
from vcam.control.metrics import CONTENT_TYPE, prometheus
from vcam.control.preview import stream
from vcam.control.schema import settings_schema
from vcam.errors import DaemonError, VcamError

if TYPE_CHECKING:
    from vcam.control.runtime import Runtime

log = logging.getLogger(__name__)

PAGE = Path(__file__).resolve().parent / "page"
MAX_JSON = 64 * 1024  # bytes


class Doors:
    """The running control server. Its loop lives on a thread of its own."""

    def __init__(self, runtime: Runtime, socket_path: Path, port: int) -> None:
        self.runtime = runtime
        self._socket_path = socket_path
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._runners: list[web.AppRunner] = []
        self._guard = guards.PageGuard()
        self._page_url = ""
        self._failure: Exception | None = None
        self._closing = asyncio.Event()

    def open(self) -> None:
        """Start serving.

        Raises:
            DaemonError: the socket cannot be made.
        """
        self._thread.start()
        self._ready.wait(10)
        if self._failure is not None:
            raise DaemonError(
                f"the control socket {str(self._socket_path)!r} cannot be made: {self._failure}",
                hint="Set XDG_RUNTIME_DIR to a directory of your own.",
            )

    def close(self) -> None:
        """Stop serving; open streams are cut."""
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(3)
        with contextlib.suppress(OSError):
            self._socket_path.unlink()

    def open_page(self) -> str:
        """Open the loopback door and return an address that works once. Any thread but ours."""
        return asyncio.run_coroutine_threadsafe(self.page(), self._loop).result(10)

    async def page(self) -> str:
        """Open the loopback door, if it is not, and return an address that works once."""
        if not self._page_url:
            runner = web.AppRunner(
                _app(self, [self._guard.middleware()]), access_log=None, shutdown_timeout=0.2
            )
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", self._port)
            await site.start()
            self._runners.append(runner)
            self._guard.port = runner.addresses[0][1]
            self._page_url = f"http://127.0.0.1:{self._guard.port}/"
        return f"{self._page_url}?token={self._guard.token()}"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:
            self._failure = error
            self._ready.set()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _serve(self) -> None:
        if sys.platform == "win32":
            await self._serve_token_door()
        else:
            await self._serve_socket()
        self._ready.set()
        await self._closing.wait()
        for runner in self._runners:
            await runner.cleanup()

    async def _serve_socket(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._socket_path.unlink()  # the lock is ours, so a socket that is left is stale
        runner = web.AppRunner(
            _app(self, [guards.same_user()]), access_log=None, shutdown_timeout=0.2
        )
        await runner.setup()
        self._runners.append(runner)
        before = os.umask(0o177)
        try:
            await web.UnixSite(runner, str(self._socket_path)).start()
        finally:
            os.umask(before)

    async def _serve_token_door(self) -> None:
        token = secrets.token_urlsafe(32)
        runner = web.AppRunner(
            _app(self, [guards.bearer(token)]), access_log=None, shutdown_timeout=0.2
        )
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        door = {"port": runner.addresses[0][1], "token": token}
        self._socket_path.write_text(json.dumps(door), encoding="utf-8")


@contextlib.contextmanager
def serve(runtime: Runtime, *, socket_path: Path, port: int = 0) -> Iterator[Doors]:
    """Serve `runtime` at its doors until the block ends.

    Raises:
        DaemonError: the socket cannot be made.
    """
    doors = Doors(runtime, socket_path, port)
    doors.open()
    try:
        yield doors
    finally:
        doors.close()


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _app(doors: Doors, middlewares: list[Any]) -> web.Application:
    app = web.Application(
        middlewares=[guards.answers, *middlewares], client_max_size=backgrounds.MAX_UPLOAD + 4096
    )
    api = _Api(doors)
    app.add_routes(
        [
            web.get("/status", api.status),
            web.get("/metrics", api.metrics),
            web.get("/settings", api.settings),
            web.patch("/settings", api.change),
            web.get("/presets", api.presets),
            web.post("/presets", api.add_preset),
            web.get("/presets/{name}/thumbnail", api.thumbnail),
            web.delete("/presets/{name}", api.remove_preset),
            web.post("/pause", api.mode("paused")),
            web.post("/resume", api.mode("live")),
            web.post("/freeze", api.mode("frozen")),
            web.post("/stop", api.stop),
            web.post("/page", api.page),
            web.get("/preview.mjpg", api.preview),
            web.get("/devices", api.devices),
            web.get("/doctor", api.doctor),
            web.get("/", api.file("index.html", "text/html")),
            web.get("/app.css", api.file("app.css", "text/css")),
            web.get("/app.js", api.file("app.js", "text/javascript")),
        ]
    )
    return app


class _Api:
    """One method an endpoint. Whatever may take long runs off the loop."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._runtime = doors.runtime

    async def status(self, request: web.Request) -> web.Response:
        return web.json_response(await asyncio.to_thread(self._runtime.status))

    async def metrics(self, request: web.Request) -> web.Response:
        status = await asyncio.to_thread(self._runtime.status)
        return web.Response(text=prometheus(status), headers={"Content-Type": CONTENT_TYPE})

    async def settings(self, request: web.Request) -> web.Response:
        settings = self._runtime.settings
        return web.json_response(
            {
                "values": settings.current.model_dump(),
                "schema": settings_schema(),
                "revision": settings.revision,
                "problem": settings.problem,
                "unsaved": settings.unsaved,
            }
        )

    async def change(self, request: web.Request) -> web.Response:
        changes = await _json_object(request)
        for section, keys in changes.items():
            if not isinstance(keys, dict):
                raise VcamError(
                    f"[{section}] is {keys!r}, expected a table of settings",
                    hint='Send {"section": {"key": value}}.',
                )
        config = await asyncio.to_thread(self._runtime.settings.change, changes)
        return web.json_response(
            {"values": config.model_dump(), "revision": self._runtime.settings.revision}
        )

    async def presets(self, request: web.Request) -> web.Response:
        found = await asyncio.to_thread(backgrounds.presets)
        return web.json_response({"presets": [{"name": p.name, "kind": p.kind} for p in found]})

    async def add_preset(self, request: web.Request) -> web.Response:
        name = request.query.get("name", "")[:200]
        if (request.content_length or 0) > backgrounds.MAX_UPLOAD:
            raise web.HTTPRequestEntityTooLarge(backgrounds.MAX_UPLOAD, request.content_length or 0)
        data = await request.read()
        preset = await asyncio.to_thread(backgrounds.add_file, data, name)
        return web.json_response({"name": preset.name, "kind": preset.kind}, status=201)

    async def thumbnail(self, request: web.Request) -> web.Response:
        picture = await asyncio.to_thread(backgrounds.thumbnail, request.match_info["name"])
        return web.Response(
            body=picture,
            content_type="image/jpeg",
            headers={"Cache-Control": "private, max-age=3600"},
        )

    async def remove_preset(self, request: web.Request) -> web.Response:
        await asyncio.to_thread(backgrounds.remove, request.match_info["name"])
        return web.json_response({})

    def mode(self, mode: Any) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            self._runtime.settings.set_mode(mode)
            return web.json_response({"mode": mode})

        return handler

    async def stop(self, request: web.Request) -> web.Response:
        asyncio.get_running_loop().call_later(0.05, self._runtime.stop)
        return web.json_response({})

    async def page(self, request: web.Request) -> web.Response:
        return web.json_response({"url": await self._doors.page()})

    async def preview(self, request: web.Request) -> web.StreamResponse:
        return await stream(request, self._runtime)

    async def devices(self, request: web.Request) -> web.Response:
        from dataclasses import asdict

        from vcam import devices

        def look() -> dict[str, Any]:
            return {
                "cameras": [asdict(c) for c in devices.list_cameras()],
                "virtual": [asdict(c) for c in devices.list_virtual_cameras()],
            }

        found = await asyncio.to_thread(look)
        return web.json_response(found, dumps=lambda value: json.dumps(value, default=str))

    async def doctor(self, request: web.Request) -> web.Response:
        from dataclasses import asdict

        from vcam import doctor

        found = await asyncio.to_thread(doctor.run_checks)
        findings = [asdict(finding) for finding in found]
        return web.json_response(
            {"findings": findings}, dumps=lambda value: json.dumps(value, default=str)
        )

    def file(self, name: str, kind: str) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            text = (PAGE / name).read_text(encoding="utf-8")
            return web.Response(text=text, content_type=kind, charset="utf-8")

        return handler


async def _json_object(request: web.Request) -> dict[str, Any]:
    """Read a JSON object of at most `MAX_JSON` bytes.

    Raises:
        VcamError: anything else.
    """
    if (request.content_length or 0) > MAX_JSON:
        raise web.HTTPRequestEntityTooLarge(MAX_JSON, request.content_length or 0)
    raw = await request.content.read(MAX_JSON + 1)
    try:
        value = guards.read_json(raw)
    except ValueError as error:
        raise VcamError(f"{error}", hint='Send {"section": {"key": value}}.') from None
    if not isinstance(value, dict):
        raise VcamError("the body is not a JSON object", hint='Send {"section": {"key": value}}.')
    return value
