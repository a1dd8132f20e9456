"""Endpoints of the control doors: one function each; `vcam.control.description` has the table."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
from collections.abc import Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from vcam import words
from vcam.compose import backdrops, library
from vcam.control import camera_controls, guards
from vcam.control.description import ASKERS, Endpoint, describe, table
from vcam.control.jobs import aside, on_file_worker, on_worker, start_workers
from vcam.control.metrics import CONTENT_TYPE, prometheus
from vcam.control.preview import Preview, jpeg_of_room, png_of
from vcam.doctor import report
from vcam.errors import VcamError
from vcam.overlay import logos
from vcam.settings import choice
from vcam.settings.live import SAFE_BACKGROUND
from vcam.settings.schema import settings_schema
from vcam.system import devices
from vcam.system.memory import blank
from vcam.words import Words
from vcam.words.markup import translated

if TYPE_CHECKING:
    from segmentation.motion.room import RoomWord
    from vcam.control.page_door import PageDoor
    from vcam.control.runtime import Runtime

log = logging.getLogger(__name__)

PAGE: Final = Path(__file__).resolve().parent / "page"
MAX_JSON: Final = 64 * 1024  # bytes
LONGEST_PAUSE: Final = 24 * 3600  # seconds that the card counts down from
MAX_STREAMS: Final = 16  # watchers of /events at a time
BODY_TIMEOUT: Final = 10.0  # seconds in which a change has to arrive
UPLOAD_TIMEOUT: Final = 120.0  # seconds in which a picture or clip has to
EVENT_INTERVAL: Final = 1.0  # seconds between statuses when nothing changes
PULSE: Final = 0.05  # seconds between two looks at what is told at once
LEARNS_HINT: Final = 'Set engine = "cpu" under [matte], and wait until it is ready.'
REVEAL_HINT: Final = "Send {} to show the room as it is."
HINT: Final = 'Send {"section": {"key": value}}.'


class Api:
    """Answers for one daemon. Belongs to the control thread; long work runs aside."""

    def __init__(self, runtime: Runtime, page: PageDoor) -> None:
        self._runtime = runtime
        self._page = page
        self.preview = Preview(runtime)
        start_workers()
        aside(backdrops.sweep)
        self._streams = 0

    def endpoints(self, *, local: bool) -> list[Endpoint]:
        """The table; what only the `local` door offers is left out for the page's."""
        return table(self, local=local)

    async def front(self, request: web.Request) -> web.Response:
        """The page itself, in the reader's language."""
        page = (PAGE / "index.html").read_text(encoding="utf-8")
        text = translated(page, self._words(request))
        return web.Response(text=text, content_type="text/html", charset="utf-8")

    async def words(self, request: web.Request) -> web.Response:
        """The rest of its words, for what it says later."""
        found = self._words(request)
        told = {"language": found.language, "words": found.entries}
        text = f"export default {json.dumps(told, ensure_ascii=False)};\n"
        return web.Response(text=text, content_type="text/javascript", charset="utf-8")

    def _words(self, request: web.Request) -> Words:
        wish = self._runtime.settings.current.control.language
        accepted = words.accepted(request.headers.get("Accept-Language", ""))
        return words.of(accepted if wish == "auto" else wish)

    async def status(self, request: web.Request) -> web.Response:
        return web.json_response(await self._status())

    async def metrics(self, request: web.Request) -> web.Response:
        text = prometheus(await self._status())
        return web.Response(text=text, headers={"Content-Type": CONTENT_TYPE})

    async def settings(self, request: web.Request) -> web.Response:
        return web.json_response(self._settings() | {"schema": settings_schema()})

    async def change(self, request: web.Request) -> web.Response:
        changes = await _json_object(request)
        for section, keys in changes.items():
            if not isinstance(keys, dict):
                raise VcamError(f"[{section}] is {keys!r}, expected a table of settings", hint=HINT)
        await on_worker(self._runtime.settings.change, changes)
        return web.json_response(self._settings())

    async def undo(self, request: web.Request) -> web.Response:
        names = await on_worker(self._runtime.settings.undo)
        return web.json_response(self._settings() | {"undone": names})

    async def presets(self, request: web.Request) -> web.Response:
        found = await on_worker(library.entries)
        used = await on_worker(library.current, self._runtime.settings.current)
        return web.json_response({"presets": [asdict(entry) for entry in found], "current": used})

    async def use(self, request: web.Request) -> web.Response:
        try:
            entry = await on_worker(library.find, request.match_info["name"])
        except VcamError as error:
            return guards.refusal(404, error.message, error.hint)
        await on_worker(self._runtime.settings.choose, entry.values)
        return web.json_response({"name": entry.name})

    def step(self, step: int) -> guards.Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            entry = await on_worker(library.neighbour, self._runtime.settings.current, step)
            await on_worker(self._runtime.settings.choose, entry.values)
            return web.json_response({"name": entry.name})

        return handler

    async def keep(self, request: web.Request) -> web.Response:
        now = self._runtime.settings.current
        entry = await on_worker(library.keep, request.match_info["name"], now)
        return web.json_response({"name": entry.name}, status=201)

    async def add_preset(self, request: web.Request) -> web.Response:
        name = request.query.get("name", "")[:200]
        if not name or any(ord(c) < 32 for c in name):
            raise VcamError("the background has no name", hint="Send it as ?name=FILE.jpg.")
        if (request.content_length or 0) > backdrops.MAX_UPLOAD:
            raise web.HTTPRequestEntityTooLarge(backdrops.MAX_UPLOAD, request.content_length or 0)
        content = await _in_time(request.read(), UPLOAD_TIMEOUT)
        preset = await on_file_worker(backdrops.add_file, content, name)
        return web.json_response({"name": preset.name, "kind": preset.kind}, status=201)

    async def add_logo(self, request: web.Request) -> web.Response:
        if (request.content_length or 0) > logos.MOST:
            raise web.HTTPRequestEntityTooLarge(logos.MOST, request.content_length or 0)
        content = await _in_time(_at_most(logos.MOST, request), UPLOAD_TIMEOUT)
        path = await on_file_worker(logos.add, content)
        return await self._logo_is(str(path))

    async def remove_logo(self, request: web.Request) -> web.Response:
        return await self._logo_is("")

    async def _logo_is(self, name: str) -> web.Response:
        settings = self._runtime.settings
        await on_worker(settings.change, {"overlay": {"logo": name}})
        # Those before it go, too, once nobody can take the change back any more.
        sweep = functools.partial(aside, lambda: logos.sweep(settings.current.overlay.logo))
        asyncio.get_running_loop().call_later(backdrops.KEPT_FOR + 1, sweep)
        return web.json_response(self._settings())

    async def logo(self, request: web.Request) -> web.Response:
        try:
            picture = await on_file_worker(logos.small, self._runtime.settings.current.overlay.logo)
        except VcamError as error:
            return guards.refusal(404, error.message, error.hint)
        return web.Response(body=picture, content_type="image/png")

    async def thumbnail(self, request: web.Request) -> web.Response:
        try:
            picture = await on_file_worker(library.thumbnail, request.match_info["name"])
        except VcamError as error:
            return guards.refusal(404, error.message, error.hint)
        return web.Response(body=picture, content_type="image/jpeg")

    async def place(self, request: web.Request) -> web.Response:
        name, settings = request.match_info["name"], self._runtime.settings
        told = await _json_object(request)
        put_back = await on_file_worker(library.place, name, told)
        settings.placed(name, put_back)
        if await on_worker(library.shows, name, settings.current):
            await on_file_worker(settings.refresh)
        return web.json_response(self._settings())

    async def remove_preset(self, request: web.Request) -> web.Response:
        name, settings = request.match_info["name"], self._runtime.settings
        try:
            used = settings.current.background.use
            if shown := await on_worker(library.shows, name, settings.current):
                await on_worker(settings.choose, {"background": {"use": SAFE_BACKGROUND}})
            put_back = await on_file_worker(library.remove, name)
        except VcamError as error:
            return guards.refusal(404, error.message, error.hint)
        loop = asyncio.get_running_loop()
        loop.call_later(backdrops.KEPT_FOR + 1, aside, backdrops.sweep)
        settings.deleted(name, put_back, used if shown else "")
        return web.json_response(self._settings())

    async def reveal_room(self, request: web.Request) -> web.Response:
        told = await _json_object(request) if request.can_read_body else {}
        wish, by = told.get("use", "none"), told.get("by")
        try:
            how = choice.reveal_of(str(wish))
        except ValueError as error:
            raise VcamError(f"use is {str(wish)[:80]!r}, {error}", hint=REVEAL_HINT) from None
        by = by if by in ASKERS else "a program"
        await on_worker(self._runtime.settings.show_room, by, how)
        return web.json_response(self._settings())

    def tell_room(self, word: RoomWord) -> guards.Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            if not self._runtime.tell_room(word):
                return guards.refusal(409, "The room is not learnt by this engine.", LEARNS_HINT)
            return web.json_response({})

        return handler

    async def known_room(self, request: web.Request) -> web.Response:
        known = await on_worker(self._runtime.room_map)
        if known is None:
            return web.Response(status=204)
        return web.Response(body=png_of(known), content_type="image/png")

    async def hide(self, request: web.Request) -> web.Response:
        self._runtime.settings.end_reveal()  # at once, however many wait for a thread
        await on_worker(self._runtime.settings.hide)
        return web.json_response(self._settings())

    async def pause(self, request: web.Request) -> web.Response:
        # The card at once, whatever comes with the word.
        self._runtime.settings.set_mode("paused")
        told = await _json_object(request) if request.can_read_body else {}
        back_in = told.get("back_in")
        if back_in is not None:
            number = isinstance(back_in, (int, float)) and not isinstance(back_in, bool)
            if not number or not 0 < back_in <= LONGEST_PAUSE:
                raise VcamError(
                    f"back_in is {str(back_in)[:80]!r}, expected seconds, a day at most",
                    hint='Send {"back_in": 300}.',
                )
            self._runtime.settings.set_mode("paused", float(back_in))
        return web.json_response({"mode": "paused"})

    def mode(self, mode: Any) -> guards.Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            self._runtime.settings.set_mode(mode)
            return web.json_response({"mode": mode})

        return handler

    async def toggle(self, request: web.Request) -> web.Response:
        return web.json_response({"mode": self._runtime.settings.toggle()})

    async def stop(self, request: web.Request) -> web.Response:
        # After the answer has left; a client that hears nothing would call it a failure.
        asyncio.get_running_loop().call_later(0.05, self._runtime.stop)
        return web.json_response({})

    async def page(self, request: web.Request) -> web.Response:
        asked = await _json_object(request) if request.can_read_body else {}
        folder = asked.get("folder")
        if folder is not None and not isinstance(folder, str):
            raise VcamError("the folder is no text", hint='Send {"folder": "/path"} or nothing.')
        address = await self._page.open(Path(folder) if folder else None)
        return web.json_response(address._asdict(), dumps=_dumps)

    async def close_page(self, request: web.Request) -> web.Response:
        return web.json_response({"closed": await self._page.close()})

    async def sign_in(self, request: web.Request) -> web.Response:
        word = (await _json_object(request)).get("token")
        key = self._page.sign_in(str(word), guards.origin_of(request))
        if key is None:
            return guards.refusal(401, "This address was used already.", "Run `vcam open`.")
        return web.json_response({"session": key})

    async def ticket(self, request: web.Request) -> web.Response:
        sessions, key = self._page.sessions, request.headers[guards.SESSION_HEADER]
        session = sessions.find(key, guards.origin_of(request))
        if session is None:  # it has just ended
            return guards.refusal(401, "This page is not signed in.", "Run `vcam open`.")
        number, secret = sessions.tickets.issue(session)
        return web.json_response({"number": number, "secret": secret})

    async def back(self, request: web.Request) -> web.Response:
        told = {key: str(value)[:200] for key, value in (await _json_object(request)).items()}
        number, origin = told.get("number", ""), guards.origin_of(request)
        if "proof" in told:
            key = self._page.come_back(number, origin, told["proof"])
            if key is not None:
                return web.json_response({"session": key})
        else:
            answer = self._page.sessions.tickets.challenge(number, origin, told.get("nonce", ""))
            if answer is not None:
                return web.json_response({"nonce": answer[0], "proof": answer[1]})
        return guards.refusal(401, "This page is not signed in.", "Run `vcam open`.")

    async def stream(self, request: web.Request) -> web.StreamResponse:
        view = request.query.get("view", "composite")
        if view not in self.preview.views():
            return guards.refusal(404, f"There is no view {view[:40]!r}.")
        return await self.preview.stream(request, view)

    async def room(self, request: web.Request) -> web.Response:
        view = await on_worker(self._runtime.room)
        if view is None:
            return web.Response(status=204)
        jpeg = await on_worker(jpeg_of_room, view)
        blank([view.bgr])
        return web.Response(body=jpeg, content_type="image/jpeg")

    async def events(self, request: web.Request) -> web.StreamResponse:
        if self._streams >= MAX_STREAMS:
            return guards.refusal(503, "Too many windows watch already.", "Close some of them.")
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        guards.stamp(response)
        await response.prepare(request)

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the doors are closing
                loop.call_soon_threadsafe(changed.set)

        unobserve = self._runtime.settings.observe(wake)
        self._streams += 1
        told = -1
        try:
            while True:
                settings = self._settings()
                if settings["revision"] != told:
                    told = settings["revision"]
                    await _send(response, "settings", settings)
                pulse = self._runtime.pulse()
                await _send(response, "status", await self._status())
                until = loop.time() + EVENT_INTERVAL
                while loop.time() < until and self._runtime.pulse() == pulse:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(changed.wait(), PULSE)
                        break
                changed.clear()
        except ConnectionError:
            return response
        finally:
            self._streams -= 1
            unobserve()

    async def devices(self, request: web.Request) -> web.Response:
        def look() -> dict[str, Any]:
            return {
                "cameras": [asdict(c) for c in devices.list_sources()],
                "virtual": [asdict(c) for c in devices.list_virtual_cameras()],
            }

        return web.json_response(await on_worker(look), dumps=_dumps)

    async def camera(self, request: web.Request) -> web.Response:
        return web.json_response(await on_worker(camera_controls.look, self._runtime.settings))

    async def turn(self, request: web.Request) -> web.Response:
        wanted = await _json_object(request)
        return web.json_response(
            await on_worker(camera_controls.turn, self._runtime.settings, wanted)
        )

    async def doctor(self, request: web.Request) -> web.Response:
        def look() -> list[dict[str, Any]]:
            return [finding.told() for finding in report.run_checks()]

        return web.json_response({"findings": await on_worker(look)}, dumps=_dumps)

    async def openapi(self, request: web.Request) -> web.Response:
        local = "/page" in {r.canonical for r in request.app.router.resources()}
        return web.json_response(describe(self.endpoints(local=local)))

    async def _status(self) -> dict[str, Any]:
        def look() -> dict[str, Any]:
            now = self._runtime.settings.now
            used = "" if now.revealed else library.current(now.config)
            return self._runtime.status() | {"preset": used, "presets_stamp": library.stamp()}

        status = await on_worker(look)
        return status | {"page": self._page.url, "views": self.preview.views()}

    def _settings(self) -> dict[str, Any]:
        settings = self._runtime.settings
        now = settings.now
        values = now.config.model_dump()
        if now.revealed:
            values["background"]["use"] = str(now.revealed.how)
        return {
            "values": values,
            "mode": now.mode,
            "revealed": now.revealed is not None,
            "revision": settings.revision,
            "problem": settings.problem,
            "unsaved": settings.unsaved,
            "undo": settings.step.names if settings.step else [],
        }


FILES: Final = {
    "/app.css": ("app.css", "text/css"),
    "/app.js": ("app.js", "text/javascript"),
    "/session.js": ("session.js", "text/javascript"),
    "/words.js": ("words.js", "text/javascript"),
    "/welcome.js": ("welcome.js", "text/javascript"),
    "/room.js": ("room.js", "text/javascript"),
    "/look.js": ("look.js", "text/javascript"),
    "/you.js": ("you.js", "text/javascript"),
    "/place.js": ("place.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


# What a window gets before it is signed in: it tells nothing but the language.
FREE: Final = ("/", "/catalogue.js", *FILES)


def application(api: Api, guard: Any | None, *, local: bool) -> web.Application:
    """The API behind `guard`, if it has one; the settings page too, except at the `local` door."""
    app = web.Application(
        middlewares=[guards.explain_faults, *([guard] if guard else [])],
        client_max_size=backdrops.MAX_UPLOAD + 4096,
    )
    for endpoint in api.endpoints(local=local):
        if endpoint.method == "GET":
            app.router.add_get(endpoint.path, endpoint.handler, allow_head=False)
        else:
            app.router.add_route(endpoint.method, endpoint.path, endpoint.handler)
    if not local:
        app.router.add_get("/", api.front, allow_head=False)
        app.router.add_get("/catalogue.js", api.words, allow_head=False)
        for path, (name, kind) in FILES.items():
            app.router.add_get(path, functools.partial(_file, name, kind), allow_head=False)
    return app


async def _file(name: str, kind: str, request: web.Request) -> web.StreamResponse:
    text = (PAGE / name).read_text(encoding="utf-8")
    return web.Response(text=text, content_type=kind, charset="utf-8")


async def _send(response: web.StreamResponse, event: str, value: object) -> None:
    await response.write(f"event: {event}\ndata: {_dumps(value)}\n\n".encode())


def _dumps(value: object) -> str:
    return json.dumps(value, default=str)


async def _json_object(request: web.Request) -> dict[str, Any]:
    """Read a JSON object of at most `MAX_JSON` bytes.

    Raises:
        VcamError: anything else.
    """
    if (request.content_length or 0) > MAX_JSON:
        raise web.HTTPRequestEntityTooLarge(MAX_JSON, request.content_length or 0)
    raw = await _in_time(_at_most(MAX_JSON, request), BODY_TIMEOUT)
    try:
        value = guards.read_json(raw)
    except ValueError as error:
        raise VcamError(f"{error}", hint=HINT) from None
    if not isinstance(value, dict):
        raise VcamError("the body is not a JSON object", hint=HINT)
    return value


async def _at_most(size: int, request: web.Request) -> bytes:
    raw = b""
    async for piece in request.content.iter_chunked(size):
        raw += piece
        if len(raw) > size:
            raise web.HTTPRequestEntityTooLarge(size, len(raw))
    return raw


async def _in_time(body: Coroutine[Any, Any, bytes], seconds: float) -> bytes:
    """Read a body; one that trickles in is refused, or it would hold its connection for ever."""
    try:
        return await asyncio.wait_for(body, seconds)
    except asyncio.TimeoutError:
        raise web.HTTPRequestTimeout from None
