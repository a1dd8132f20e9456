"""Open windows come back to a daemon that was started anew, and nobody else does."""

from __future__ import annotations

import hmac
import json
import stat
import time
from typing import Any

import pytest

from tests.control.doors import Browser, Page, PlayRuntime
from vcam.client import Client
from vcam.control.page_door import loopback
from vcam.control.server import serve
from vcam.control.sessions import LIFE, RETURN, Sessions
from vcam.system import paths


class Window(Page):
    """A window with a way back, as `session.js` has one."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.take_ticket()

    def take_ticket(self) -> None:
        self.number, self.secret = self.told("/session/ticket", {})[1].values()

    def told(self, path: str, body: dict[str, str], **more: str) -> tuple[int, Any]:
        status, _, raw = self.ask("POST", path, json.dumps(body), self.signed | more)
        return status, json.loads(raw)

    def proof(self, by: str, ours: str, theirs: str, origin: str = "") -> str:
        text = "\n".join((by, origin or self.origin, ours, theirs))
        return hmac.new(self.secret.encode(), text.encode(), "sha256").hexdigest()

    def challenge(self) -> tuple[int, Any]:
        return self.told("/session/back", {"number": self.number, "nonce": "mine"})

    def come_back(self) -> int:
        status, answer = self.challenge()
        if status != 200:
            return status
        assert answer["proof"] == self.proof("daemon", answer["nonce"], "mine")
        mine = self.proof("page", answer["nonce"], "mine")
        status, answer = self.told("/session/back", {"number": self.number, "proof": mine})
        if status == 200:
            self.key = answer["session"]
            self.take_ticket()
        return status

    @property
    def let_in(self) -> bool:
        return self.ask("GET", "/status", None, self.signed)[0] == 200


def served(sessions: Sessions | None = None) -> Any:
    return serve(PlayRuntime(), socket_path=paths.socket_path(), sessions=sessions)


def listens(page: Browser) -> bool:
    try:
        page.connect().close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_window_comes_back_to_the_same_port_ten_times_and_each_time_with_a_new_key():
    with served() as doors:
        window = Window(doors.open_page())
    for _ in range(10):
        assert not listens(window)
        old = window.key
        with served():
            began = time.monotonic()
            while not listens(window):
                assert time.monotonic() - began < 2
            assert not window.let_in  # a key never outlives its daemon
            assert window.come_back() == 200
            assert window.let_in
            assert window.key != old


def test_what_is_written_down_is_private_and_holds_no_key():
    with served() as doors:
        window = Window(doors.open_page())
    file = paths.runtime_dir() / "page.json"

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert window.secret in file.read_text()
    assert window.key not in file.read_text()


def test_a_proof_is_good_once_and_for_its_own_challenge_and_origin():
    with served() as doors:
        window = Window(doors.open_page())
    with served():
        number = {"number": window.number}
        _, first = window.challenge()
        _, second = window.challenge()
        stale = window.proof("page", first["nonce"], "mine")
        assert window.told("/session/back", {**number, "proof": stale})[0] == 401
        late = window.proof("page", second["nonce"], "mine")  # the challenge was used up
        assert window.told("/session/back", {**number, "proof": late})[0] == 401
        _, third = window.challenge()
        for wrong in (
            third["proof"],  # the daemon's own, sent back
            window.proof("page", third["nonce"], "mine", "http://127.0.0.1:1"),
            "",
            "é",
        ):
            assert window.told("/session/back", {**number, "proof": wrong})[0] == 401
            _, third = window.challenge()
        host = window.host.replace("127.0.0.1", "localhost")
        body = {**number, "nonce": "mine"}
        other = {"Host": host, "Origin": f"http://{host}"}
        assert window.told("/session/back", body, **other)[0] == 401
        good = {**number, "proof": window.proof("page", third["nonce"], "mine")}
        assert window.told("/session/back", good)[0] == 200
        assert window.told("/session/back", good)[0] == 401


def test_another_site_cannot_even_ask():
    with served() as doors:
        window = Window(doors.open_page())
    with served():
        body = {"number": window.number, "nonce": "mine"}
        assert window.told("/session/back", body, Origin="http://evil.example")[0] == 403


def test_a_closed_page_and_half_a_day_leave_no_way_back(clock, known, monkeypatch):
    with served(known) as doors:
        window = Window(doors.open_page())
        assert Client.connect().close_page()
    assert not (paths.runtime_dir() / "page.json").exists()

    with served(Sessions(clock)) as doors:
        window = Window(doors.open_page())
    clock.ahead += LIFE + 1
    now = time.time()
    monkeypatch.setattr("vcam.control.sessions.time.time", lambda: now + LIFE + 1)
    with served(Sessions(clock)):
        assert not listens(window) or window.challenge()[0] == 401


def test_the_door_of_before_is_open_for_a_while_alone(clock):
    with served() as doors:
        window = Window(doors.open_page())
    with served(Sessions(clock)):
        while not listens(window):
            time.sleep(0.02)
        clock.ahead += RETURN + 1
        end = time.monotonic() + 20
        while listens(window):
            assert time.monotonic() < end
            time.sleep(0.1)
    assert not (paths.runtime_dir() / "page.json").exists()


def test_a_new_window_does_not_load_from_a_port_that_somebody_else_may_have_had():
    with served() as doors:
        window = Window(doors.open_page())
    with served() as doors:
        while not listens(window):
            time.sleep(0.02)
        assert Window(doors.open_page()).address != window.address
    with served() as doors:
        window = Window(doors.open_page())
    with served() as doors:
        while not listens(window):
            time.sleep(0.02)
        assert window.come_back() == 200  # which vouches for it
        assert Window(doors.open_page()).address == window.address


def test_a_port_that_is_taken_is_left_alone():
    with served() as doors:
        window = Window(doors.open_page())
    taken = loopback(int(window.address))
    with taken, served() as doors:
        assert Window(doors.open_page()).address != window.address


@pytest.mark.parametrize("text", ["", "{", '{"tickets": 5}', '{"tickets": [{"number": 1}]}', "[]"])
def test_a_damaged_memory_is_no_memory(text):
    (paths.runtime_dir() / "page.json").write_text(text)

    with served() as doors:
        assert Window(doors.open_page()).let_in


BACK = 2.0  # seconds
# How late timers of the page are, all in all: what a busy machine adds to every wait.
LATE = """() => {
    let last = performance.now();
    window.late = 0;
    setInterval(() => {
        const now = performance.now();
        window.late += Math.max(0, now - last - 55);
        last = now;
    }, 50);
}"""


def test_an_open_page_comes_back_by_itself_ten_times(browser):
    browsing = pytest.importorskip("tests.control.browsing")
    runtime = browsing.ColourRuntime()
    times = []
    context = browser.new_context(viewport={"width": 900, "height": 700}, reduced_motion="reduce")
    context.set_default_timeout(60_000)
    window = context.new_page()
    with serve(runtime, socket_path=paths.socket_path()) as doors:
        window.goto(doors.open_page())
        window.wait_for_selector('body[data-state="live"]')
        window.wait_for_function(
            "performance.getEntriesByName(location.origin + '/session/ticket').length"
        )
    window.evaluate(LATE)
    for _ in range(10):
        window.wait_for_selector("#lost:not([hidden])")
        assert window.locator(".panel").evaluate("(e) => e.inert")
        assert "vcam start" in window.locator("#lost").inner_text()
        with serve(runtime, socket_path=paths.socket_path()):
            window.evaluate("late = 0")
            began = time.monotonic()
            window.wait_for_selector("#lost[hidden]", state="attached")
            took = time.monotonic() - began
            times.append(took - window.evaluate("late") / 1e3)
            window.wait_for_selector('body[data-state="live"]')
            window.wait_for_timeout(300)
    print(f"\nback after {[round(one, 2) for one in times]} s")
    assert max(times) < BACK
    stored = window.evaluate("JSON.stringify({...sessionStorage, ...localStorage})")
    context.close()
    assert "secret" not in stored
