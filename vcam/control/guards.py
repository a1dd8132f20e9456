"""Checks of every request at each door, and the headers of every answer."""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Collection

from aiohttp import web

from vcam import __version__
from vcam.control.sessions import Sessions
from vcam.errors import VcamError

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

VERSION_HEADER = "X-Vcam-Version"
SESSION_HEADER = "X-Vcam-Session"
SIGN_IN = ("POST", "/session")  # trades the word for a key, so it asks for none
BACK = ("POST", "/session/back")  # trades a ticket for one
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
    body = refusal_text(message, hint, problems)
    return web.Response(body=body, status=status, content_type="application/json", charset="utf-8")


def refusal_text(message: str, hint: str = "", problems: tuple[str, ...] = ()) -> bytes:
    """The body of a refusal."""
    return json.dumps({"error": message, "hint": hint, "problems": list(problems)}).encode()


@web.middleware
async def explain_faults(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn faults into sentences and add the headers of every answer; outermost of all."""
    try:
        response = _version_refusal(request) or await handler(request)
    except web.HTTPException as error:
        known = {
            404: "There is nothing here.",
            405: "This cannot be done here.",
            408: "The request took too long to arrive.",
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
    """True if two versions speak the same language: equal up to the second number."""
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
    """The guard of the loopback port: Host and Origin checked, and a window's key in a header.

    No cookie: browsers give cookies to every port of a host, a header to this one alone.
    Belongs to the control thread.
    """

    def __init__(self, sessions: Sessions, port: int, *, free: Collection[str]) -> None:
        self._sessions = sessions
        self._free = free  # the page itself, which tells nothing
        self._origins = {f"http://{host}:{port}" for host in ("127.0.0.1", "localhost")}

    def middleware(self) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            # A name that somebody else's DNS points here (rebinding) is not ours.
            if origin_of(request) not in self._origins:
                return refusal(421, "This address is not the settings page's.")
            if problem := self._stranger(request):
                return refusal(403, problem)
            free = request.method == "GET" and request.path in self._free
            if free or (request.method, request.path) in (SIGN_IN, BACK):
                return await handler(request)
            key = request.headers.get(SESSION_HEADER, "")
            session = self._sessions.find(key, origin_of(request))
            if session is None or request.transport is None:
                return refusal(401, "This page is not signed in.", "Run `vcam open`.")
            with self._sessions.visit(session, request.transport.abort):
                return await handler(request)

        return guard

    def _stranger(self, request: web.Request) -> str | None:
        """The reason for taking a request as not made by our own page, or None."""
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self._origins:
            return "Another site asked for this."
        if origin is None and request.method not in ("GET", "HEAD"):
            return "The request does not say which page it comes from."
        # Without an Origin (pictures, links) browsers still say whether a page of ours asked.
        if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            navigates = request.headers.get("Sec-Fetch-Mode") == "navigate"
            if request.path != "/" or not navigates:
                return "Another site asked for this."
        return None


def origin_of(request: web.Request) -> str:
    """The origin that the browser was asked to go to."""
    return f"http://{request.headers.get('Host', '')}"


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
