"""Another user of the machine, and another port of it, get nothing of the room. Real ones, both.

python -m pytest tests/control/test_strangers.py -s    tells the figures of the flood
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.control import stranger
from tests.control.doors import Browser, Page, PlayRuntime
from vcam import paths
from vcam.control import sessions
from vcam.control.client import Client
from vcam.control.server import Doors

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc, and who asks, is Linux's")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
VCAM = [sys.executable, "-m", "vcam"]


def until(holds: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


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
def test_a_window_whose_key_has_ended_says_so(context, client, runtime, clock):
    window = signed_in(context, client.open_page())
    clock.ahead += sessions.LIFE - 60
    later = signed_in(context, client.open_page())

    clock.ahead += 61

    window.locator("#signed-out").wait_for()
    assert not window.locator("main").is_visible()
    assert window.evaluate(KEY) is None
    assert later.evaluate("document.body.dataset.state") == "live"


# A thousand silent connections


class Manager:
    """Counts what a daemon tells the service manager."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.pings: list[float] = []
        self._link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._link.bind(str(self.path))
        self._link.settimeout(0.2)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                if b"WATCHDOG=1" in self._link.recv(4096):
                    self.pings.append(time.monotonic())

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._link.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Client, Manager, Path]]:
    """A real daemon on the demo picture, with as few descriptors as systems give, and a manager."""
    cache = os.environ.get("VCAM_TEST_CACHE") or str(Path("~root/.cache").expanduser())
    manager, log = Manager(tmp_path), tmp_path / "daemon.log"
    environ = os.environ | {
        "XDG_CACHE_HOME": cache,
        "NOTIFY_SOCKET": str(manager.path),
        "WATCHDOG_USEC": "4000000",
    }
    environ.pop("WATCHDOG_PID", None)

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))

    with (
        log.open("wb") as file,
        subprocess.Popen(
            [*VCAM, "start", "--foreground", "--source", "demo", "--sink", "none"],
            env=environ,
            stdout=file,
            stderr=file,
            preexec_fn=few,
        ) as daemon,
    ):
        try:
            until(lambda: paths.socket_path().exists(), 90)
            client = Client.connect()
            until(lambda: client.status()["frames"]["composited"] > 30, 120)
            yield client, manager, log
        finally:
            daemon.terminate()
            daemon.wait(30)
            manager.close()


@LINUX
@stranger.needs_root
@pytest.mark.parametrize("who", ["another user", "a program of ours"])
def test_a_thousand_silent_connections_stop_nothing(watched, who):
    client, manager, log = watched
    page = Page(client.open_page())
    words = (
        stranger.command(stranger.SILENT, page.address, 1100)
        if who == "another user"
        else [sys.executable, "-I", "-c", stranger.SILENT, str(page.address), "1100"]
    )
    before, began, size = client.status(), time.monotonic(), log.stat().st_size
    took: list[float] = []
    with (
        streaming_preview(page),
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as flood,
    ):
        assert flood.stdout
        all_there = 0.0
        while not all_there or time.monotonic() < all_there + 8:
            at = time.monotonic()
            assert at < began + 90, "the flood never ended"
            if not all_there and select.select([flood.stdout], [], [], 0)[0]:
                all_there = at
            after = client.status()
            took.append(time.monotonic() - at)
            time.sleep(0.05)
        held, left = map(int, flood.communicate(timeout=60)[0].split())
    seen = {k: after["frames"][k] - before["frames"][k] for k in after["frames"]}
    lasted = time.monotonic() - began
    pings = [at for at in manager.pings if at >= began]
    grown = log.stat().st_size - size

    print(
        f"\n{who}: {held} of 1,100 connected, {left} at the end; {len(took)} answers, median "
        f"{statistics.median(took) * 1000:.0f} ms, longest {max(took) * 1000:.0f} ms; {seen}; "
        f"{len(pings)} pings in {lasted:.0f} s; the log grew by {grown} bytes"
    )
    assert after["state"] == "live"
    assert seen["composited"] > 5 * lasted
    assert seen["composited"] > 5 * seen["cards"]
    assert len(pings) > lasted / 2  # one a second is due, one in four seconds is enough
    assert max(took) < 5
    assert grown < 20_000
    assert left == 0  # ours are cut as well, for saying nothing
    assert page.ask("GET", "/status", headers=page.signed)[0] == 200


@contextlib.contextmanager
def streaming_preview(page: Page) -> Iterator[None]:
    """Somebody looks at the preview, or the daemon would go idle."""
    with page.connect() as link:
        told = "".join(f"{name}: {value}\r\n" for name, value in page.signed.items())
        link.sendall(f"GET /preview.mjpg HTTP/1.1\r\nHost: {page.host}\r\n{told}\r\n".encode())
        link.settimeout(0.5)
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                with contextlib.suppress(TimeoutError):
                    if not link.recv(1 << 20):
                        return

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def test_the_helpers_see_an_open_door(doors: Doors, runtime: PlayRuntime):
    """The stranger's question, asked by us, is answered: what refuses it is the uid alone."""
    page = Page(doors.open_page())
    told = [f"{name}: {value}" for name, value in page.signed.items()]
    words = [sys.executable, "-I", "-c", stranger.ASK, str(page.address), "POST", "/pause", *told]

    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout

    assert said.strip() == "HTTP/1.1 200 OK"
    assert runtime.settings.mode == "paused"
