"""Descriptions of the endpoints: for programs (OpenAPI) and for people (docs/api.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from vcam import __version__
from vcam.control import guards
from vcam.control.guards import Handler
from vcam.settings.schema import settings_schema
from vcam.words import mark

ASKERS: Final = (
    mark("command line"),
    mark("tray"),
    mark("settings page"),
)  # who may be named for a reveal
_BACK: Final = ("number", "nonce", "proof")


@dataclass(frozen=True)
class Endpoint:
    """One line of the table: what is asked, who answers, and what the description says."""

    method: str
    path: str
    handler: Handler
    summary: str
    body: dict[str, Any] | None = None
    answers: str = "application/json"
    query: dict[str, str] = field(default_factory=dict)


def table(api: Any, *, local: bool) -> list[Endpoint]:
    """Every endpoint of `vcam.control.api.Api`; the page's door lacks what is the `local` one's."""
    known = [
        *_of_settings(api),
        *_of_presets(api),
        *_of_modes(api),
        *_of_pictures(api),
        *_of_machine(api),
    ]
    if local:
        words = {"type": "string"}
        folder = {"type": "object", "properties": {"folder": words}}
        return [
            *known,
            Endpoint("POST", "/page", api.page, "Open the settings page's door.", folder),
            Endpoint("DELETE", "/page", api.close_page, "Close it and end its sessions."),
        ]
    room = Endpoint(
        "POST",
        "/room",
        api.room,
        "One picture of the room as it is, for the page while its button is held.",
        answers="image/jpeg",
    )
    word = {"type": "object", "properties": {"token": {"type": "string"}}}
    sign_in = Endpoint(*guards.SIGN_IN, api.sign_in, "Trade an address's word for a key.", word)
    proof = {"type": "object", "properties": {k: {"type": "string"} for k in _BACK}}
    ticket = Endpoint(
        "POST",
        "/session/ticket",
        api.ticket,
        "A way back for a window when the daemon ends.",
    )
    back = Endpoint(
        *guards.BACK, api.back, "Ask for the daemon's proof; with one's own, for a key.", proof
    )
    return [*known, room, sign_in, ticket, back]


def _of_settings(api: Any) -> list[Endpoint]:
    settings = {"type": "object", "additionalProperties": {"type": "object"}}
    return [
        Endpoint("GET", "/status", api.status, "What the daemon does right now."),
        Endpoint(
            "GET", "/metrics", api.metrics, "The status for Prometheus.", answers="text/plain"
        ),
        Endpoint("GET", "/settings", api.settings, "Every setting: value, range, meaning."),
        Endpoint("PATCH", "/settings", api.change, "Change settings; all or none.", settings),
        Endpoint("POST", "/undo", api.undo, "Take the last change back, for a minute."),
    ]


def _of_presets(api: Any) -> list[Endpoint]:
    return [
        Endpoint(
            "GET",
            "/presets",
            api.presets,
            "Backgrounds and looks that have a name.",
        ),
        Endpoint(
            "POST",
            "/presets",
            api.add_preset,
            "Keep a picture or clip as a background.",
            {"type": "string", "format": "binary"},
            query={"name": "file name, with its suffix"},
        ),
        Endpoint(
            "GET",
            "/presets/{name}/thumbnail",
            api.thumbnail,
            "A preset, small.",
            answers="image/jpeg",
        ),
        Endpoint("POST", "/presets/next", api.step(1), "Choose the next one."),
        Endpoint("POST", "/presets/previous", api.step(-1), "Choose the one before."),
        Endpoint("POST", "/presets/{name}/use", api.use, "Choose a background or look."),
        Endpoint(
            "PUT",
            "/presets/{name}",
            api.keep,
            "Keep what is in force under a name.",
        ),
        Endpoint(
            "PUT",
            "/presets/{name}/fitting",
            api.place,
            "Shift, enlarge, darken or blur a picture of yours: x, y, zoom, darken, blur.",
            {"type": "object", "additionalProperties": {"type": "number"}},
        ),
        Endpoint("DELETE", "/presets/{name}", api.remove_preset, "Delete a preset of yours."),
        Endpoint(
            "POST",
            "/logo",
            api.add_logo,
            "Keep a picture and have it be the logo of the name tag.",
            {"type": "string", "format": "binary"},
        ),
        Endpoint("DELETE", "/logo", api.remove_logo, "Take the logo off the name tag."),
        Endpoint("GET", "/logo.png", api.logo, "The logo, small.", answers="image/png"),
    ]


def _of_modes(api: Any) -> list[Endpoint]:
    return [
        Endpoint(
            "POST",
            "/reveal",
            api.reveal_room,
            "Show the room to others until a background, /hide or a pause.",
            {
                "type": "object",
                "properties": {"use": {"type": "string"}, "by": {"enum": list(ASKERS)}},
            },
        ),
        Endpoint("POST", "/known-room", api.tell_room("learn"), "Learn the empty room."),
        Endpoint("DELETE", "/known-room", api.tell_room("forget"), "Forget the room."),
        Endpoint("POST", "/hide", api.hide, "Put the background back in front of the room."),
        Endpoint(
            "POST",
            "/pause",
            api.pause,
            "Show the privacy card, which may say in how many seconds you are back.",
            {"type": "object", "properties": {"back_in": {"type": "number"}}},
        ),
        Endpoint("POST", "/resume", api.mode("live"), "Show the person again."),
        Endpoint("POST", "/toggle", api.toggle, "Pause, or take a pause or freeze back."),
        Endpoint("POST", "/freeze", api.mode("frozen"), "Keep showing the last picture."),
        Endpoint("POST", "/stop", api.stop, "End the daemon."),
    ]


def _of_pictures(api: Any) -> list[Endpoint]:
    return [
        Endpoint(
            "GET",
            "/preview.mjpg",
            api.stream,
            "What others see, live; with view=matte the matte instead.",
            answers="multipart/x-mixed-replace",
            query={"view": "composite or matte"},
        ),
        Endpoint(
            "GET",
            "/known-room.png",
            api.known_room,
            "Where the room behind is known: white; no picture of it.",
            answers="image/png",
        ),
        Endpoint(
            "GET",
            "/events",
            api.events,
            "Status and settings as they change.",
            answers="text/event-stream",
        ),
    ]


def _of_machine(api: Any) -> list[Endpoint]:
    return [
        Endpoint("GET", "/devices", api.devices, "Cameras and virtual cameras."),
        Endpoint("GET", "/camera", api.camera, "Exposure, zoom and the like of the webcam."),
        Endpoint(
            "PATCH",
            "/camera",
            api.turn,
            "Set them by name, now and whenever that webcam opens.",
            {"type": "object", "additionalProperties": {"type": "integer"}},
        ),
        Endpoint("GET", "/doctor", api.doctor, "What keeps the camera from showing up."),
        Endpoint("GET", "/openapi.json", api.openapi, "This description."),
    ]


def describe(endpoints: list[Endpoint]) -> dict[str, Any]:
    """The table as an OpenAPI 3.1 document."""
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        names = [part[1:-1] for part in one.path.split("/") if part.startswith("{")]
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ] + [
            {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
            for name, text in one.query.items()
        ]
        kind = "application/json"
        if one.body and one.body["type"] == "string":
            kind = "application/octet-stream"
        operation: dict[str, Any] = {
            "summary": one.summary,
            "parameters": parameters,
            "responses": {
                "2XX": {"description": "Done.", "content": {one.answers: {}}},
                "4XX": {
                    "description": "Refused.",
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}
                    },
                },
            },
        }
        if one.body:
            operation["requestBody"] = {"required": True, "content": {kind: {"schema": one.body}}}
        paths.setdefault(one.path, {})[one.method.lower()] = operation
    words = {"type": "string"}
    refusal = {
        "type": "object",
        "required": ["error", "hint", "problems"],
        "properties": {
            "error": words,
            "hint": words,
            "problems": {"type": "array", "items": words},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "VBG Camera", "version": __version__},
        "paths": paths,
        "components": {"schemas": {"Refusal": refusal}},
    }


def markdown(page: list[Endpoint], local: list[Endpoint]) -> str:
    """The table as `docs/api.md`; `page` and `local` are what each door offers."""
    at_page, at_local = ({(one.method, one.path) for one in table} for table in (page, local))
    rows = ["| request | what it does | answers |", "|---|---|---|"]
    for one in [*local, *(one for one in page if (one.method, one.path) not in at_local)]:
        here, asked, does = (one.method, one.path), f"`{one.method} {one.path}`", one.summary
        for name, text in one.query.items():
            asked += f"<br>`?{name}=` {text}"
        if here not in at_page:
            does += " The local door only."
        if here not in at_local:
            does += " The settings page's door only."
        rows.append(f"| {asked} | {does} | `{one.answers}` |")
    known = ["| setting | kind | default | meaning |", "|---|---|---|---|"]
    for section, keys in settings_schema().items():
        for key, told in keys.items():
            kind = " or ".join(f"`{c}`" for c in told.get("choices", ())) or told["type"]
            if "minimum" in told and "maximum" in told:
                kind += f", {told['minimum']:g} to {told['maximum']:g}"
            words = str(told["description"]).replace("|", "\\|")
            default = json.dumps(told["default"])
            known.append(f"| `{section}.{key}` | {kind} | `{default}` | {words} |")
    return MANUAL.format(requests="\n".join(rows), settings="\n".join(known))


MANUAL: Final = """# The control interface

`python -m vcam.manual api` wrote this page; a test compares the two.

A running daemon answers HTTP at two doors. The **local door** is the unix socket
`$XDG_RUNTIME_DIR/vcam/control.sock`, open to processes of the same user alone; `vcam`, the tray and
scripts use it. The **settings page's door** is a port on 127.0.0.1 that `vcam open` opens; on Linux
other users of the machine are refused before their request is read, and other hosts and other sites
are refused everywhere. The word in the address signs in one window, once: `POST /session` with
`{{"token": "…"}}` gives its key, which every further request carries in the header
`X-Vcam-Session`. A key is good at the origin that it was given to, for 12 hours, or 10 minutes
after its window has gone. The door closes 15 seconds after the last page, or with
`vcam open --close`, which ends every session.

No key outlives its daemon. `POST /session/ticket` gives a window a number and a secret; a daemon
that is started anew waits at the same port, for 90 seconds, for windows that were open.
`POST /session/back` with `{{"number": "…", "nonce": "…"}}` is answered with a nonce of the daemon's
and its proof: HMAC-SHA-256 with the secret over `daemon`, the origin and both nonces, the daemon's
first, each on a line. With `{{"number": "…", "proof": "…"}}`, the same over `page`, it gives a new
key, once.

A door takes 64 connections at a time, the page's 48, from one process 32. One that sends no request
for 5 seconds is closed, after its first one for 30. A body has to arrive within 10 seconds, a
picture or clip within 2 minutes.

```sh
curl --unix-socket $XDG_RUNTIME_DIR/vcam/control.sock http://vcam/status
curl --unix-socket $XDG_RUNTIME_DIR/vcam/control.sock http://vcam/settings \\
     -X PATCH -d '{{"background": {{"use": "blur"}}}}'
curl --unix-socket $XDG_RUNTIME_DIR/vcam/control.sock http://vcam/presets/next -X POST
```

A refusal has a status of 400 or above and says why:
`{{"error": "…", "hint": "…", "problems": []}}`.
`GET /openapi.json` describes the same for programs. A request with the header `X-Vcam-Version` of
another release is refused with 409; `GET /status` and `POST /stop` are always answered.

## Requests

{requests}

`GET /events` sends `event: status` at least once a second and `event: settings` after each change.
`POST /room` is the one answer that shows the room. It is asked for again and again while the button
on the page is held, keeps nothing once nobody asked for a second, and no virtual camera carries it.

## Settings

`PATCH /settings` takes `{{"section": {{"key": value}}}}`, all or nothing, in force with the next
frame and written to `config.toml`.

{settings}
"""
