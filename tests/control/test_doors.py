"""How many come in, for how long, who they are, and when a door closes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.control import stranger
from tests.control.doors import Browser, Clock, Page, until
from vcam.client import Client
from vcam.control import api, page_door, peers, sessions
from vcam.control.door import (
    LIMITS,
    RESERVED,
    Door,
    Limits,
    Link,
    Sparing,
    raise_descriptor_limit,
)
from vcam.control.sessions import IDLE, LIFE, LINGER, TOKEN_LIFE, Sessions
from vcam.errors import DaemonError
from vcam.system import paths

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells who is at the other end")
ORIGIN = "http://127.0.0.1:1"


# Sessions


def test_a_word_can_be_used_once_and_in_time():
    clock = Clock()
    known = Sessions(clock)
    first, late = known.token(), known.token()

    assert known.sign_in(first, ORIGIN)
    assert known.sign_in(first, ORIGIN) is None
    clock.ahead += TOKEN_LIFE + 1
    assert known.sign_in(late, ORIGIN) is None


def test_a_key_ends_when_its_window_has_gone_and_after_half_a_day_in_any_case():
    clock = Clock()
    known = Sessions(clock)
    gone = known.sign_in(known.token(), ORIGIN)
    here = known.sign_in(known.token(), ORIGIN)
    cut: list[str] = []
    session = known.find(here, ORIGIN)

    with known.visit(session, lambda: cut.append("cut")):
        clock.ahead += IDLE + 1
        assert known.find(gone, ORIGIN) is None
        assert known.find(here, ORIGIN) is session
        assert not cut
        clock.ahead += LIFE
        assert known.find(here, ORIGIN) is None
        assert cut == ["cut"]


def test_words_and_keys_do_not_pile_up():
    known = Sessions(Clock())
    keys = [known.sign_in(known.token(), ORIGIN) for _ in range(100)]
    words = [known.token() for _ in range(100)]

    assert [known.find(key, ORIGIN) is not None for key in keys].count(True) == 32
    assert [known.awaits(word) for word in words].count(True) == 16


def test_the_door_waits_for_a_word_and_for_a_page_that_loads_again_and_then_for_nobody():
    clock = Clock()
    known = Sessions(clock)
    word = known.token()
    assert not known.deserted
    session = known.find(known.sign_in(word, ORIGIN), ORIGIN)
    assert session

    with known.visit(session, lambda: None):
        clock.ahead += LINGER + 1
        assert not known.deserted
    assert not known.deserted
    clock.ahead += LINGER + 1
    assert known.deserted
    known.token()
    assert not known.deserted
    clock.ahead += TOKEN_LIFE + 1
    assert known.deserted


def listening(page: Page) -> bool:
    try:
        page.connect().close()
    except ConnectionRefusedError:
        return False
    return True


def streaming(page: Page, path: str) -> socket.socket:
    """A stream that has begun."""
    link = page.connect()
    told = "".join(f"{name}: {value}\r\n" for name, value in page.signed.items())
    link.sendall(f"GET {path} HTTP/1.1\r\nHost: {page.host}\r\n{told}\r\n".encode())
    assert link.recv(100).startswith(b"HTTP/1.1 200")
    return link


def ended(link: socket.socket, seconds: float = 5.0) -> bool:
    """Whether a connection is closed by the other end in time, whatever it still sends."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([link], [], [], left)[0]:
            try:
                if not link.recv(65536):
                    return True
            except ConnectionError:
                return True
    return False


@pytest.mark.parametrize("path", ["/events", "/preview.mjpg"])
def test_an_expired_session_is_refused_and_what_it_watches_is_cut(doors, clock, path):
    page = Page(doors.open_page())
    with streaming(page, path) as link:
        clock.ahead += LIFE + 1

        assert ended(link)
    until(lambda: _after(clock, LINGER + 1) and not listening(page), 10)
    again = Page(doors.open_page())
    told = page.signed | {"Origin": again.origin}
    assert again.ask("GET", "/status", headers=told)[0] == 401


def test_an_expired_key_is_refused_while_the_door_is_open(doors, clock):
    page = Page(doors.open_page())
    clock.ahead += IDLE - 1
    other = Page(doors.open_page())
    assert other.ask("GET", "/status", headers=page.signed)[0] == 200
    with streaming(other, "/events"):
        clock.ahead += IDLE + 1

        assert page.ask("GET", "/status", headers=page.signed)[0] == 401
        assert other.ask("GET", "/status", headers=other.signed)[0] == 200


def test_the_door_closes_when_the_last_page_has_gone(doors, clock):
    page, other = Page(doors.open_page()), Page(doors.open_page())
    client = Client.connect()
    with streaming(page, "/events"):
        clock.ahead += LINGER + 1
        time.sleep(2.5)
        assert listening(page)
        assert client.status()["page"]

    until(lambda: _after(clock, LINGER + 1) and not listening(page), 10)
    assert client.status()["page"] is None
    again = Page(doors.open_page())
    assert again.ask("GET", "/status", headers=other.signed | {"Origin": again.origin})[0] == 401


def _after(clock: Clock, seconds: float) -> bool:
    """Put the clock forward; a stream's end is seen when the daemon next writes to it."""
    clock.ahead += seconds
    return True


def test_close_ends_every_session_and_the_port(doors, client):
    pages = [Page(client.open_page()), Page(client.open_page())]
    unused = client.open_page()
    with streaming(pages[0], "/events") as link:
        assert client.close_page()

        assert ended(link)
    assert not any(listening(page) for page in pages)
    assert client.status()["page"] is None
    assert not client.close_page()
    again = Page(client.open_page())
    for page in pages:
        told = page.signed | {"Origin": again.origin}
        assert again.ask("GET", "/status", headers=told)[0] == 401
    assert again.sign_in(unused.partition("#")[2])[0] == 401


# Who is at the other end


@pytest.fixture(params=["127.0.0.1", "::ffff:127.0.0.1"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a loopback connection: the one that asks, and the one that was accepted."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server(("127.0.0.1", 0)) as door, socket.socket(family) as asking:
        try:
            asking.connect((request.param, door.getsockname()[1]))
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")
        accepted, _ = door.accept()
        with accepted:
            yield asking, accepted


LOOK_UPS = [peers.uid_by_netlink, peers.uid_by_table]


@LINUX
@pytest.mark.parametrize("look_up", LOOK_UPS)
def test_the_kernel_tells_who_asked_until_they_have_gone(pair, look_up):
    asking, accepted = pair
    theirs, ours = accepted.getpeername(), accepted.getsockname()

    assert look_up(theirs, ours) == os.getuid()
    assert look_up(("127.0.0.1", 1), ours) is None
    asking.close()  # the kernel would now say root
    assert look_up(theirs, ours) is None


@LINUX
@stranger.needs_root
@pytest.mark.parametrize("look_up", LOOK_UPS)
def test_another_user_is_told_from_us(look_up):
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        words = stranger.command(stranger.SILENT, port, 1)
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            accepted, _ = door.accept()
            with accepted:
                seen = look_up(accepted.getpeername(), accepted.getsockname())
            other.communicate(timeout=20)

    assert seen == stranger.UID


@LINUX
def test_where_the_kernel_does_not_answer_the_table_is_read(pair, monkeypatch):
    def refuse(*words: object) -> None:
        raise OSError

    monkeypatch.setattr(peers, "uid_by_netlink", refuse)
    _, accepted = pair
    assert peers.peer_of(accepted) == (os.getuid(), 0)

    monkeypatch.setattr(peers, "TABLES", ())
    assert peers.peer_of(accepted) is None


@LINUX
def test_who_cannot_be_told_is_refused(doors, page, monkeypatch):
    monkeypatch.setattr(peers, "peer_of", lambda link: None)

    assert page.ask("GET", "/status", headers=page.signed)[0] == 403
    with pytest.raises(DaemonError):
        Client.connect().status()


# How many, and for how long


@contextlib.contextmanager
def silent(address: object, count: int) -> Iterator[Callable[[], int]]:
    """A process that holds connections and says nothing; gives what tells how many are left."""
    words = [sys.executable, "-I", "-c", stranger.SILENT, str(address), str(count)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as made:
        assert made.stdout
        made.stdout.readline()
        yield lambda: int(made.communicate(timeout=20)[0])


def test_one_process_cannot_take_all_of_the_local_door(doors, client):
    with silent(paths.socket_path(), 200) as left:
        took = [_timed(client.status) for _ in range(20)]

        assert max(took) < 5
        assert 0 < left() <= LIMITS.of_process


def test_many_processes_cannot_either(doors, client):
    with contextlib.ExitStack() as held:
        lefts = [held.enter_context(silent(paths.socket_path(), 30)) for _ in range(4)]

        took = [_timed(client.status) for _ in range(20)]

        assert max(took) < 5
        assert 0 < sum(left() for left in lefts) <= LIMITS.links


def test_silent_connections_do_not_keep_a_window_out(page):
    with silent(page.address, 300) as left:
        assert page.ask("GET", "/status", headers=page.signed)[0] == 200
        assert 0 < left() <= page_door.LIMITS.links


def _timed(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


@pytest.mark.parametrize("drip", [b"", b"x"])
def test_who_sends_no_request_is_cut_and_a_slow_head_is_none(local, drip):
    began = time.monotonic()
    with local.connect() as link:
        link.sendall(b"GET /status HTTP/1.1\r\nX: ")
        while not ended(link, 0.3):
            assert time.monotonic() - began < 20
            with contextlib.suppress(OSError):
                link.sendall(drip)

    assert time.monotonic() - began > LIMITS.silent - 1


def test_a_link_may_rest_for_longer_once_it_has_asked_and_for_as_long_as_it_is_answered():
    link = Link(None, since=0.0)

    assert not link.overdue(LIMITS.silent, LIMITS)
    assert link.overdue(LIMITS.silent + 1, LIMITS)
    link.asked = True
    assert not link.overdue(LIMITS.silent + 1, LIMITS)
    assert link.overdue(LIMITS.idle + 1, LIMITS)
    link.busy = 1
    assert not link.overdue(LIMITS.idle * 100, LIMITS)


def test_a_link_rests_between_requests_and_streams_are_never_cut(local):
    with local.connect() as link, local.connect() as stream:
        stream.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in range(2):
            link.sendall(b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n")
            assert link.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(LIMITS.silent + 2)
        assert not ended(stream, 1)


@LINUX
@pytest.mark.parametrize("half_closed", [False, True])
def test_who_does_not_read_the_answer_is_cut(half_closed):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=bytes(50_000_000))

    async def play() -> int | None:
        loop, app = asyncio.get_running_loop(), web.Application()
        app.router.add_get("/", answer)
        listening = page_door.loopback(0)
        door = Door(listening, Limits(silent=1.5, idle=1.5))
        await door.open(app)
        with socket.socket() as link:
            link.setblocking(False)
            await loop.sock_connect(link, listening.getsockname())
            await loop.sock_sendall(link, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await asyncio.sleep(0.5)  # the answer is under way
            if half_closed:
                link.shutdown(socket.SHUT_WR)
            await asyncio.sleep(4)
            holder = peers.uid_by_table(listening.getsockname(), link.getsockname())
        await door.close()
        return holder

    assert asyncio.run(play()) is None


@pytest.mark.parametrize("path", ["/settings", "/presets?name=a.png"])
def test_a_body_that_trickles_in_is_refused(local, monkeypatch, path):
    monkeypatch.setattr(api, "BODY_TIMEOUT", 1.0)
    monkeypatch.setattr(api, "UPLOAD_TIMEOUT", 1.0)
    method = "PATCH" if path == "/settings" else "POST"
    with local.connect() as link:
        link.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n{{".encode()
        )

        assert b" 408 " in link.recv(4096)
    assert local.ask("GET", "/status")[0] == 200


# Holds doors open in a process with few descriptors; says how many it could still open.
SHORT = """
import os, sys, threading
from pathlib import Path
from tests.control.doors import PlayRuntime
from vcam.control.server import serve
with serve(PlayRuntime(), socket_path=Path(sys.argv[1])) as doors:
    print(doors.open_page(), flush=True)
    sys.stdin.readline()
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for one in held:
        os.close(one)
    print(len(held), flush=True)
    sys.stdin.readline()
"""


def test_the_doors_leave_descriptors_to_camera_sinks_and_watchdog(home):
    limit = 110

    def shorten() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    path = paths.runtime_dir() / "short.sock"
    words = [sys.executable, "-c", SHORT, str(path)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=shorten
    ) as daemon:
        assert daemon.stdin
        assert daemon.stdout
        port = int(daemon.stdout.readline().split(":")[2].split("/")[0])
        links = [Browser(port).connect() for _ in range(60)]
        links += [Browser(path).connect() for _ in range(30)]
        time.sleep(1)
        daemon.stdin.write("\n")
        daemon.stdin.flush()
        left = int(daemon.stdout.readline())
        for link in links:
            link.close()
        time.sleep(1)
        answered = Browser(path).ask("GET", "/status")[0]
        daemon.communicate("\n", timeout=20)

    assert left >= RESERVED - 1
    assert answered == 200


def test_the_limit_of_descriptors_is_raised_as_far_as_it_may_be():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        raise_descriptor_limit()
        raised = resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert raised[0] > 256
    assert raised[1] == before[1]


def test_what_comes_a_thousand_times_fills_no_log(caplog):
    clock = Clock()
    spared, sparing = logging.getLogger("spared"), Sparing(20, clock)
    spared.addFilter(sparing)
    try:
        for _ in range(1000):
            spared.warning("Refused %s", "somebody")
        clock.ahead += 61
        spared.warning("Refused %s", "another")
    finally:
        spared.removeFilter(sparing)

    assert len(caplog.records) == 21
    assert caplog.records[-1].getMessage() == "Refused another (980 lines before were left out)"


def test_the_sessions_module_is_the_only_one_that_makes_keys():
    folder = Path(sessions.__file__).parent
    makers = {p.name for p in folder.glob("*.py") if "token_urlsafe" in p.read_text()}

    assert makers == {"sessions.py", "server.py"}
