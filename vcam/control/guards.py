"""Who may come in at each door, and what every answer carries."""

from __future__ import annotations

import hmac
import json
import logging
import os
import secrets
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from vcam import __version__
from vcam.errors import VcamError

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

VERSION_HEADER = "X-Vcam-Version"
TOKEN_LIFE = 600.0  # seconds in which the address printed by `vcam open` can be used, once
ANY_VERSION = {("GET", "/status"), ("POST", "/stop")}  # what an older command may always ask

SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


def refusal(
    status: int, message: str, hint: str = "", problems: tuple[str, ...] = ()
) -> web.Response:
    """An answer that says what is wrong and what to do, in the one shape all doors know."""
    body = {"error": message, "hint": hint, "problems": list(problems)}
    return web.json_response(body, status=status)


@web.middleware
async def answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn faults into sentences and add the headers of every answer; outermost of all."""
    try:
        response = _version_refusal(request) or await handler(request)
    except web.HTTPException as error:
        known = {
            404: "There is nothing here.",
            405: "This cannot be done here.",
            413: "That is too large.",
        }
        response = refusal(error.status, known.get(error.status, error.reason))
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
    except VcamError as error:
        problems = getattr(error, "problems", ())
        response = refusal(422, error.message, error.hint, tuple(problems))
    except (ConnectionError, TimeoutError):
        raise
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        response = refusal(500, "The daemon stumbled over this request.", "See the log.")
    if not response.prepared:
        stamp(response)
    return response


def stamp(response: web.StreamResponse) -> None:
    """Add the version and the headers that keep a browser from doing more than we mean."""
    response.headers[VERSION_HEADER] = __version__
    for name, value in SAFE_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")


def compatible(ours: str, theirs: str) -> bool:
    """Whether two versions speak the same language: equal up to the second number."""
    return ours.split(".")[:2] == theirs.split(".")[:2]


def _version_refusal(request: web.Request) -> web.Response | None:
    theirs = request.headers.get(VERSION_HEADER)
    if theirs is None or compatible(__version__, theirs):
        return None
    if (request.method, request.path) in ANY_VERSION:
        return None
    return refusal(
        409,
        f"The running daemon is version {__version__}, this command is version {theirs[:40]!r}.",
        "Run `vcam stop`, then `vcam start`.",
    )


def same_user() -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    """The guard of the unix socket: only processes of this user come in."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = request.get_extra_info("socket")
        uid = peer_uid(connection) if connection is not None else None
        if uid != os.getuid():
            log.warning("Refused a request of uid %s", uid)
            return refusal(403, f"This daemon belongs to uid {os.getuid()}, you are uid {uid}.")
        return await handler(request)

    return guard


def peer_uid(connection: socket.socket) -> int | None:
    """The user at the other end of a unix socket; None where the system does not tell."""
    try:
        if hasattr(socket, "SO_PEERCRED"):
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            return int(struct.unpack("3i", raw)[1])
        if sys.platform == "darwin":  # struct xucred: version, uid, … (LOCAL_PEERCRED, unix(4))
            raw = connection.getsockopt(0, 1, 76)
            return int(struct.unpack_from("2I", raw)[1])
    except OSError:
        pass
    return None


def bearer(token: str) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    """The guard where unix sockets are missing: a token from a file only this user can read."""
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode(errors="replace")
        if not hmac.compare_digest(given, expected) or "Origin" in request.headers:
            return refusal(403, "The token is missing or wrong.", "Run `vcam start` again.")
        return await handler(request)

    return guard


class PageGuard:
    """The guard of the loopback port: one-time token for a cookie, Host and Origin checked.

    Belongs to the control thread.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.port = 0
        self._clock = clock
        self._tokens: dict[str, float] = {}  # token -> when it expires
        self._sessions: list[str] = []

    def token(self) -> str:
        """A new word that opens the page once."""
        now = self._clock()
        self._tokens = {word: end for word, end in self._tokens.items() if end > now}
        while len(self._tokens) >= 16:
            del self._tokens[next(iter(self._tokens))]
        word = secrets.token_urlsafe(32)
        self._tokens[word] = now + TOKEN_LIFE
        return word

    @property
    def cookie(self) -> str:
        """Cookies are shared by every port of a host, so the name holds ours."""
        return f"vcam_{self.port}"

    @property
    def origins(self) -> tuple[str, str]:
        return f"http://127.0.0.1:{self.port}", f"http://localhost:{self.port}"

    def middleware(self) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            # A name that somebody else's DNS points here (rebinding) is not ours.
            if f"http://{request.headers.get('Host', '')}" not in self.origins:
                return refusal(421, "This address is not the settings page's.")
            if problem := self._stranger(request):
                return refusal(403, problem)
            if request.method == "GET" and request.path == "/" and "token" in request.query:
                return self._exchange(request.query["token"])
            if not self._knows(request.cookies.get(self.cookie, "")):
                if request.method == "GET" and request.path == "/":
                    return web.Response(text=LOCKED, content_type="text/html", status=401)
                return refusal(401, "This page is not signed in.", "Run `vcam open`.")
            return await handler(request)

        return guard

    def _stranger(self, request: web.Request) -> str | None:
        """Why a request was not made by our own page, or None."""
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self.origins:
            return "Another site asked for this."
        if origin is None and request.method not in ("GET", "HEAD"):
            return "The request does not say which page it comes from."
        # Without an Origin (pictures, links) browsers still say whether a page of ours asked.
        if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            navigates = request.headers.get("Sec-Fetch-Mode") == "navigate"
            if request.path != "/" or not navigates:
                return "Another site asked for this."
        return None

    def _exchange(self, word: str) -> web.Response:
        """Trade a one-time token for a cookie."""
        match = next(
            (
                t
                for t in self._tokens
                if hmac.compare_digest(t.encode(), word.encode(errors="replace"))
            ),
            None,
        )
        if match is None or self._tokens.pop(match) <= self._clock():
            return web.Response(text=LOCKED, content_type="text/html", status=401)
        session = secrets.token_urlsafe(32)
        self._sessions = [*self._sessions[-31:], session]
        # A redirect keeps the used token out of the address bar and the history.
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(self.cookie, session, httponly=True, samesite="Strict", path="/")
        return response

    def _knows(self, given: str) -> bool:
        raw = given.encode(errors="replace")
        return any([hmac.compare_digest(raw, known.encode()) for known in self._sessions])


LOCKED = """<!doctype html><html lang="en"><meta charset="utf-8"><title>VBG Camera</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<h1>This address was used already</h1>
<p>For your safety each address opens the settings page once. Run <code>vcam open</code>,
or choose “Open settings” in the tray, to get a new one.</p></html>
"""


def read_json(raw: bytes) -> object:
    """Parse JSON strictly: no NaN, no control characters or broken text inside strings.

    Raises:
        ValueError: with a sentence for the caller.
    """

    def refuse(word: str) -> object:
        raise ValueError(f"{word} is not a number")

    try:
        value = json.loads(raw.decode(), parse_constant=refuse)
    except UnicodeDecodeError:
        raise ValueError("the body is not UTF-8 text") from None
    except RecursionError:
        raise ValueError("the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"the body is not JSON: {error}") from None
    _clean(value, 0)
    return value


def _clean(value: object, depth: int) -> None:
    if depth > 6:
        raise ValueError("the body is nested too deeply")
    if isinstance(value, str) and any(
        ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in value
    ):
        raise ValueError("text must not hold control characters")
    if isinstance(value, int) and not -(2**53) < value < 2**53:
        raise ValueError(f"{str(value)[:20]} is too large a number")
    if isinstance(value, dict):
        for key, inner in value.items():
            _clean(key, depth + 1)
            _clean(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _clean(inner, depth + 1)
