"""Another user of the machine, and another port of it, get nothing of the room. Real ones, both."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.control import stranger
from tests.control.doors import Browser, Page, PlayRuntime, until
from vcam.client import Client
from vcam.control import sessions
from vcam.control.preview import jpeg_from
from vcam.control.server import Doors
from vcam.system import paths

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc, and who asks, is Linux's")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
VCAM = [sys.executable, "-m", "vcam"]


# Another user


@LINUX
@stranger.needs_root
def test_another_user_is_refused_with_the_word_and_with_the_key(doors, page, runtime):
    unused = doors.open_page().partition("#")[2]
    before = runtime.settings.current
    told = [f"{name}: {value}" for name, value in page.signed.items()]

    answers = {
        (method, path): stranger.says(stranger.ASK, page.address, method, path, *told)
        for method, path in (
            ("GET", "/"),
            ("POST", "/room"),
            ("GET", "/preview.mjpg"),
            ("POST", "/pause"),
            ("POST", "/presets/none/use"),
            ("POST", "/session"),
        )
    }

    assert set(answers.values()) <= {"HTTP/1.1 403 Forbidden", "cut"}
    assert runtime.settings.current is before
    assert runtime.settings.mode == "live"
    assert page.ask("POST", "/room", headers=page.signed)[0] == 200
    assert page.sign_in(unused)[0] == 200


@LINUX
@stranger.needs_root
def test_another_user_who_leaves_at_once_is_not_taken_for_root(page, runtime):
    """The kernel calls a socket that was closed root's, and these tests run as root."""
    code = """
import socket, sys
for _ in range(200):
    link = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    link.sendall(sys.argv[2].encode())
    link.close()
"""
    told = "".join(f"{name}: {value}\r\n" for name, value in page.signed.items())
    head = f"POST /pause HTTP/1.1\r\nHost: {page.host}\r\nContent-Length: 0\r\n{told}\r\n"
    stranger.says(code, page.address, head)
    page.ask("GET", "/status", headers=page.signed)  # comes after all of them

    assert runtime.settings.mode == "live"


@contextlib.contextmanager
def browser_command(folder: Path, script: str) -> Iterator[dict[str, str]]:
    """An environment whose browser is `script`; it gets what shall be opened as "$1"."""
    path = folder / "a-browser"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    yield os.environ | {"BROWSER": str(path)}


@LINUX
@stranger.needs_root
@pytest.mark.desktop
@pytest.mark.skipif(CHROMIUM is None, reason="apt-get install chromium")
def test_the_arguments_of_a_real_browser_tell_no_way_in(doors, known, home):
    """`vcam open` starts Chromium; another user reads every argument on the machine meanwhile."""
    script = (
        f"exec {CHROMIUM} --headless --no-sandbox --disable-gpu --no-first-run "
        f'--user-data-dir="{home}/profile" --remote-debugging-port=0 "$1" >/dev/null 2>&1'
    )
    seen: list[str] = []
    with (
        browser_command(home, script) as environ,
        subprocess.Popen(
            [*VCAM, "open"],
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as opening,
    ):
        try:
            until(lambda: _looked(seen) and known.visited)
            seen.append(stranger.says(stranger.ARGUMENTS))
        finally:
            os.killpg(opening.pid, signal.SIGTERM)
        printed = opening.communicate(timeout=30)[0]

    arguments = "\n".join(seen)
    word = re.search(r"#(\S+)", printed)
    assert word
    files = set(re.findall(r"file://(\S+?/open\.html)", arguments))
    assert len(files) == 1, "Chromium was not seen with the file"
    assert word[1] not in arguments
    assert not re.search(r"127\.0\.0\.1:\d+/#", arguments)
    file = Path(files.pop())
    assert not file.exists()
    assert not file.parent.exists()


def _looked(seen: list[str]) -> bool:
    seen.append(stranger.says(stranger.ARGUMENTS))
    return True


@LINUX
@stranger.needs_root
def test_another_user_cannot_read_the_file_that_the_browser_was_given(doors, runtime):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)  # so that only the file's own directory keeps them out
        file = Client.connect().open_page_file(Path(folder)).file

        told = stranger.says(stranger.READ, file)
        Client.connect().close_page()

    assert told == "PermissionError"


# Another port of this machine


class Listener(http.server.ThreadingHTTPServer):
    """A server on another port that writes down what browsers give it."""

    def __init__(self) -> None:
        self.heard: list[dict[str, str]] = []
        outer = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.heard.append(dict(self.headers.items()))
                body = b"<!doctype html><title>other</title>"
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *words: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if CHROMIUM is None:
        pytest.skip("apt-get install chromium")
    with playwright.sync_playwright() as player:
        running = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def context(chromium: Any) -> Iterator[Any]:
    made = chromium.new_context()
    made.set_default_timeout(30_000)
    yield made
    made.close()


def signed_in(context: Any, url: str) -> Any:
    window = context.new_page()
    window.goto(url)
    window.wait_for_selector('body[data-state="live"]')
    return window


KEY = "sessionStorage.getItem('vcam-session')"


@pytest.mark.desktop
def test_another_port_gets_neither_cookie_nor_key_nor_word(context, client, listener, runtime):
    url = client.open_page()
    window = signed_in(context, url)
    key, word = window.evaluate(KEY), url.partition("#")[2]
    assert key

    other = context.new_page()
    other.goto(listener.url)
    window.evaluate(f"fetch('{listener.url}', {{ mode: 'no-cors' }}).catch(() => {{}})")
    window.goto(listener.url)  # leaves the page in the same window

    told = json.dumps(listener.heard)
    assert len(listener.heard) >= 2
    assert context.cookies() == []
    assert not any("cookie" in name.lower() for heard in listener.heard for name in heard)
    assert key not in told
    assert word not in told
    assert other.evaluate(KEY) is None
    assert window.evaluate(KEY) is None


@pytest.mark.desktop
def test_a_page_at_another_port_can_ask_for_nothing(context, client, listener, runtime):
    url = client.open_page()
    door = url.partition("#")[0]
    window = signed_in(context, url)
    key = window.evaluate(KEY)
    other = context.new_page()
    other.goto(listener.url)
    ask = """async ([url, method, headers, mode]) => {
        const how = { method, headers, mode, credentials: "include" };
        try {
            const answer = await fetch(url, how);
            return [answer.type, answer.status, await answer.text()];
        } catch { return "refused"; }
    }"""

    for method, path in (("POST", "room"), ("GET", "status"), ("POST", "pause")):
        plain = other.evaluate(ask, [door + path, method, {}, "no-cors"])
        keyed = other.evaluate(ask, [door + path, method, {"X-Vcam-Session": key}, "cors"])
        assert plain in (["opaque", 0, ""], "refused")
        assert keyed == "refused"
    assert runtime.settings.mode == "live"


# The page's own window


@pytest.mark.desktop
def test_the_word_leaves_the_address_bar_and_a_reload_stays_signed_in(context, client, runtime):
    url = client.open_page()
    door, _, word = url.partition("#")
    window = signed_in(context, url)

    assert window.url == door
    for _ in range(3):
        window.reload()
        window.wait_for_selector('body[data-state="live"]')
    assert word not in window.evaluate("JSON.stringify(history.state) + document.referrer")
    fetched = window.evaluate("performance.getEntries().map((one) => one.name).join()")
    assert word not in fetched.replace(url, "")


@pytest.mark.desktop
@pytest.mark.parametrize("how", ["used", "none", "wrong"])
def test_a_window_without_a_key_says_so_and_shows_nothing(context, client, runtime, how):
    url = client.open_page()
    signed_in(context, url)
    door = url.partition("#")[0]
    stranger_window = context.new_page()

    stranger_window.goto({"used": url, "none": door, "wrong": f"{door}#{'x' * 43}"}[how])

    stranger_window.locator("#signed-out").wait_for()
    assert not stranger_window.locator("main").is_visible()
    assert stranger_window.locator("#preview").get_attribute("src") is None


@pytest.mark.desktop
def test_the_file_leads_a_browser_to_the_page(context, client, runtime):
    page = client.open_page_file(paths.runtime_dir())

    window = signed_in(context, page.file.as_uri())

    assert window.url == page.url.partition("#")[0]
    assert not page.file.exists()
    assert window.evaluate("document.referrer") == ""


@pytest.mark.desktop
def test_the_door_closes_after_the_last_window_and_a_reload_keeps_it(
    context, client, runtime, monkeypatch
):
    monkeypatch.setattr(sessions, "LINGER", 2.0)
    url = client.open_page()
    window, second = signed_in(context, url), signed_in(context, client.open_page())
    second.close()
    for _ in range(3):
        window.reload()
        window.wait_for_selector('body[data-state="live"]')
        time.sleep(1)
    time.sleep(4)
    assert client.status()["page"]
    key, port = window.evaluate(KEY), int(url.split(":")[2].split("/")[0])

    window.close()

    until(lambda: client.status()["page"] is None)
    with pytest.raises(ConnectionRefusedError):
        Browser(port).connect()
    again = Page(client.open_page())
    told = {"X-Vcam-Session": key, "Origin": again.origin}
    assert again.ask("POST", "/room", headers=told)[0] == 401


@pytest.mark.desktop
def test_close_signs_every_window_out(context, client, runtime):
    windows = [signed_in(context, client.open_page()) for _ in range(2)]
    keys = [window.evaluate(KEY) for window in windows]

    client.close_page()

    for window in windows:
        window.wait_for_selector("#lost:not([hidden])")
        assert window.locator("#preview").get_attribute("src") is None
    again = Page(client.open_page())
    for key in keys:
        told = {"X-Vcam-Session": key, "Origin": again.origin}
        assert again.ask("POST", "/room", headers=told)[0] == 401


@pytest.mark.desktop
def test_no_picture_stays_in_a_window_that_was_closed_whatever_ended_first(
    context, client, runtime
):
    window = signed_in(context, client.open_page())
    jpeg = jpeg_from(np.full((36, 64), 128, np.uint8))
    part = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
    once = part.encode() + jpeg + b"\r\n--frame\r\n"
    window.route("**/preview.mjpg*", lambda route: route.fulfill(status=200, body=once))
    window.reload()
    window.wait_for_selector("#preview[src]")
    window.wait_for_timeout(300)  # the stream has ended, its picture is there

    client.close_page()

    window.wait_for_selector("#lost:not([hidden])")
    assert window.locator("#preview").get_attribute("src") is None


@pytest.mark.desktop
def test_a_window_whose_key_has_ended_says_so(context, client, runtime, clock):
    window = signed_in(context, client.open_page())
    clock.ahead += sessions.LIFE - 60
    later = signed_in(context, client.open_page())

    clock.ahead += 61

    window.locator("#signed-out").wait_for()
    assert not window.locator("main").is_visible()
    assert window.evaluate(KEY) is None
    assert later.evaluate("document.body.dataset.state") == "live"


def test_the_helpers_see_an_open_door(doors: Doors, runtime: PlayRuntime):
    """The stranger's question, asked by us, is answered: what refuses it is the uid alone."""
    page = Page(doors.open_page())
    told = [f"{name}: {value}" for name, value in page.signed.items()]
    words = [sys.executable, "-I", "-c", stranger.ASK, str(page.address), "POST", "/pause", *told]

    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout

    assert said.strip() == "HTTP/1.1 200 OK"
    assert runtime.settings.mode == "paused"
