"""Requests nobody foresaw neither crash the daemon nor put anything invalid in force."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.control.doors import Browser, PlayRuntime
from vcam.control.server import serve
from vcam.settings import config
from vcam.system import paths

BASE = config.load(config.default_path(), environ={})
KEYS = {section: list(keys) for section, keys in BASE.model_dump().items()}

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(["blur", "blur:5", "#00ff00", "auto", "low", "only-me", "none", "/dev/null"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
values = anything | st.integers(0, 100) | st.floats(0, 1)


@st.composite
def changes(draw: st.DrawFn) -> object:
    """Mostly real sections and keys, with values of every kind."""
    asked: dict[str, object] = {}
    for section in draw(st.lists(st.sampled_from(list(KEYS)), max_size=3, unique=True)):
        keys = st.sampled_from(KEYS[section]) | st.text(max_size=6)
        asked[section] = draw(st.dictionaries(keys, values, max_size=3))
    if draw(st.integers(0, 5)) == 0:
        asked[draw(st.text(max_size=8))] = draw(anything)
    return asked if draw(st.integers(0, 9)) else draw(anything)


paths_ = st.sampled_from(
    [
        "/status",
        "/settings",
        "/metrics",
        "/presets",
        "/presets/studio",
        "/presets/studio/thumbnail",
        "/presets/studio/use",
        "/presets/next",
        "/presets/previous",
        "/presets/Evening",
        "/presets/Evening/use",
        "/logo",
        "/logo.png",
        "/room",
        "/pause",
        "/freeze",
        "/resume",
        "/openapi.json",
        "/",
    ]
) | st.text(string.ascii_letters + string.digits + "/.%-_~?=&;:@!$'()*+,", max_size=40).map(
    "/".__add__
)
methods = st.sampled_from(["GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS", "BREW"])
header_text = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)
headers = st.dictionaries(
    st.sampled_from(["X-Vcam-Version", "Origin", "Cookie", "Content-Type", "Range", "Expect-Not"]),
    header_text,
    max_size=3,
)
bodies = (
    changes().map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=200)
    | st.text(max_size=100).map(lambda text: text.encode(errors="surrogatepass"))
)

STREAMS = ("/preview.mjpg", "/events", "/doctor", "/devices")


@pytest.fixture(params=[pytest.param(200), pytest.param(10_000, marks=pytest.mark.slow)])
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_no_change_of_settings_is_taken_by_half_or_wrongly(rounds):
    runtime = PlayRuntime()
    with serve(runtime, socket_path=paths.socket_path()):
        browser = Browser(paths.socket_path())

        @settings(
            max_examples=rounds,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(changes())
        def fuzz(asked: object) -> None:
            before = runtime.settings.current
            status, _, raw = browser.ask("PATCH", "/settings", json.dumps(asked))
            answer, now = json.loads(raw), runtime.settings.current
            assert status in (200, 413, 422), raw
            if status == 200:
                assert isinstance(asked, dict)
                for section, keys in asked.items():
                    for key, value in keys.items():
                        assert getattr(getattr(now, section), key) == value
            else:
                assert answer["error"]
                assert now is before
            config.Config.model_validate(now.model_dump())

        fuzz()
        assert browser.ask("GET", "/status")[0] == 200


def test_no_request_makes_the_daemon_stumble(rounds):
    runtime = PlayRuntime()
    with serve(runtime, socket_path=paths.socket_path()):
        browser = Browser(paths.socket_path())

        @settings(
            max_examples=rounds,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(methods, paths_, headers, bodies)
        def fuzz(method: str, path: str, told: dict[str, str], body: bytes) -> None:
            if path.split("?")[0] in STREAMS:
                return
            status, _, raw = browser.ask(method, path, body, told)
            assert status < 500, (status, raw)
            if status >= 400 and method != "HEAD" and raw.startswith(b"{"):
                assert json.loads(raw)["error"]
            config.Config.model_validate(runtime.settings.current.model_dump())

        fuzz()
        assert not runtime.stopped.is_set()
        assert browser.ask("GET", "/status")[0] == 200
