"""Who is kept out, and what cannot be asked for."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tests.control.doors import Browser, Page, PlayRuntime
from vcam.compose import backdrops
from vcam.control.server import serve
from vcam.system import paths

PROBE = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
link = socket.socket(socket.AF_UNIX)
try:
    link.connect(sys.argv[1])
    try:
        link.sendall(b"POST /pause HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 0\\r\\n\\r\\n")
    except BrokenPipeError:
        pass
    print(link.recv(4096).decode().splitlines()[0])
except OSError as error:
    print(type(error).__name__)
"""
ROOT = hasattr(os, "getuid") and os.getuid() == 0


def test_the_socket_and_its_directory_are_private(doors):
    path = paths.socket_path()

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(not ROOT, reason="only root can become another user")
def test_another_user_is_refused_by_the_file_system_and_by_the_daemon():
    folder = Path(tempfile.mkdtemp())
    try:
        path, runtime = folder / "control.sock", PlayRuntime()
        with serve(runtime, socket_path=path):
            by_files = probe(path)
            folder.chmod(0o755)
            path.chmod(0o666)
            by_daemon = probe(path)
    finally:
        folder.rmdir()

    assert by_files == "PermissionError"
    assert by_daemon == "HTTP/1.1 403 Forbidden"
    assert runtime.settings.mode == "live"


def probe(path: Path) -> str:
    command = [sys.executable, "-I", "-c", PROBE, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()


def test_a_file_that_is_no_socket_is_not_overwritten(home):
    path = home / "control.sock"
    path.write_text("precious")

    with pytest.raises(Exception, match="cannot be made"), serve(PlayRuntime(), socket_path=path):
        pass

    assert path.read_text() == "precious"


def test_the_page_has_no_door_until_it_is_asked_for(doors, client):
    assert client.status().get("page") is None

    url = client.open_page()

    assert url.startswith("http://127.0.0.1:")


def test_a_token_signs_one_window_in_once(page):
    status, words = page.sign_in(page.token)

    assert page.ask("GET", "/status", headers=page.signed)[0] == 200
    assert status == 401
    assert "used already" in words["error"]


@pytest.mark.parametrize("word", ["", "x", "é", "a" * 5000, "%00", "../../etc/passwd"])
def test_a_wrong_token_opens_nothing(page, word):
    status, answer = page.sign_in(word)

    assert status == 401
    assert "session" not in answer


@pytest.mark.parametrize("body", [b"", b"[]", b"x", b'{"token": 1}', b'{"token": null}', b"{}"])
def test_signing_in_with_anything_but_a_word_opens_nothing(page, body):
    status, _, words = page.ask("POST", "/session", body, {"Origin": page.origin})

    assert status in (401, 422), words


def test_the_page_itself_tells_nothing_and_sets_no_cookie(page):
    for path in ("/", "/app.js", "/session.js", "/app.css", "/icon.svg"):
        status, headers, _ = page.ask("GET", path)

        assert status == 200
        assert "set-cookie" not in headers


@pytest.mark.parametrize(
    "path", ["/status", "/settings", "/preview.mjpg", "/events", "/presets", "/doctor", "/metrics"]
)
def test_nothing_is_told_without_the_key(page, path):
    wrong = {"X-Vcam-Session": "guess"}
    cookie = {"Cookie": f"vcam_{page.address}={page.key}; X-Vcam-Session={page.key}"}
    for told in ({}, wrong, cookie, {"Authorization": f"Bearer {page.key}"}):
        assert page.ask("GET", path, headers=told)[0] == 401
    assert page.ask("GET", f"{path}?session={page.key}&token={page.token}")[0] == 401


def test_neither_the_room_nor_a_change_without_the_key(page, runtime):
    before = runtime.settings.current
    told = {"Origin": page.origin, "Cookie": f"vcam_{page.address}={page.key}"}

    for method, path, body in (
        ("POST", "/room", None),
        ("PATCH", "/settings", b'{"background": {"use": "none"}}'),
        ("POST", "/pause", None),
        ("POST", "/stop", None),
    ):
        assert page.ask(method, path, body, told)[0] == 401
    assert runtime.settings.current is before
    assert runtime.settings.mode == "live"
    assert not runtime.stopped.is_set()


def test_a_key_is_good_at_the_origin_that_got_it_and_at_no_other(page):
    elsewhere = {"Host": f"localhost:{page.address}", "Origin": f"http://localhost:{page.address}"}

    assert page.ask("GET", "/status", headers=page.signed)[0] == 200
    assert page.ask("GET", "/status", headers=page.signed | elsewhere)[0] == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "localhost:1", "127.0.0.1.evil.example", "[::1]", ""]
)
def test_another_host_name_is_refused(page, host):
    status, _, _ = page.ask("GET", "/status", headers=page.signed | {"Host": host})

    assert status in (400, 421)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "file://"])
def test_another_origin_changes_nothing(page, runtime, origin):
    for method, path in (("POST", "/pause"), ("PATCH", "/settings"), ("DELETE", "/presets/x")):
        status, _, _ = page.ask(method, path, b"{}", page.signed | {"Origin": origin})

        assert status == 403
    assert runtime.settings.mode == "live"


def test_a_change_without_an_origin_is_refused(page, runtime):
    status, _, _ = page.ask("POST", "/pause", headers={"X-Vcam-Session": page.key})

    assert status == 403
    assert runtime.settings.mode == "live"


def test_another_site_cannot_embed_a_picture(page):
    told = {"X-Vcam-Session": page.key, "Sec-Fetch-Site": "cross-site"}

    assert page.ask("GET", "/presets/studio/thumbnail", headers=told)[0] == 403
    assert page.ask("GET", "/preview.mjpg", headers=told)[0] == 403


def test_the_signed_in_page_may_do_everything_but_open_more_doors(page, runtime):
    assert page.ask("POST", "/pause", headers=page.signed)[0] == 200
    assert runtime.settings.mode == "paused"
    assert page.ask("POST", "/page", headers=page.signed)[0] == 404
    assert page.ask("DELETE", "/page", headers=page.signed)[0] == 404


def test_every_answer_carries_the_headers_that_bind_a_browser(page):
    for path in ("/", "/app.js", "/status", "/presets/studio/thumbnail", "/nothing", "/presets/x"):
        _, headers, _ = page.ask("GET", path, headers=page.signed)

        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers


def test_the_page_holds_nothing_the_policy_would_block_and_loads_nothing_from_outside(page):
    _, _, html = page.ask("GET", "/", headers=page.signed)
    _, _, css = page.ask("GET", "/app.css", headers=page.signed)
    _, _, script = page.ask("GET", "/app.js", headers=page.signed)

    assert b"<style" not in html
    assert b" style=" not in html
    assert b"onclick" not in html
    for text in (html, css, script):
        outside = text.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"http:" not in outside
        assert b"https:" not in outside
        assert b"innerHTML" not in text


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/secret",
        "%2fetc%2fpasswd",
        "..",
        "%00",
        "studio%2f..%2fsecret",
        "~root",
        "a" * 4000,
    ],
)
def test_no_file_outside_the_backgrounds_folder_is_served_or_deleted(local, home, name):
    folder = paths.backgrounds_dir()
    folder.mkdir(parents=True)
    secret = folder.parent / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)

    served = local.ask("GET", f"/presets/{name}/thumbnail")
    deleted = local.ask("DELETE", f"/presets/{name}")

    assert served[0] in (400, 404, 405, 422)
    assert deleted[0] in (400, 404, 405, 422)
    assert secret.exists()


@pytest.mark.parametrize(
    "path", ["/../server.py", "/page/../guards.py", "//etc/passwd", "/%2e%2e/"]
)
def test_no_program_file_is_served(page, path):
    assert page.ask("GET", path, headers=page.signed)[0] in (400, 404)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("garbage.png", b"not a picture at all" * 100),
        ("empty.jpg", b""),
        ("page.html", b"<script>alert(1)</script>"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("program.png.exe", b"MZ"),
        ("cut.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"),
        ("clip.mp4", b"\x00\x00\x00\x18ftypmp42" + b"\xff" * 500),
        ("", b"\x89PNG"),
    ],
)
def test_what_is_no_picture_is_refused_and_leaves_nothing_behind(local, name, content):
    status, _, words = local.ask("POST", f"/presets?name={name}", content)

    assert status == 422, words
    assert b"error" in words
    folder = paths.backgrounds_dir()
    assert not folder.exists() or not list(folder.iterdir())


def test_an_enormous_picture_in_a_small_file_is_refused(local):
    side = 40_000
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes((side // 8 + 1) * 1000))

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data)
    started = time.monotonic()
    status, _, words = local.ask("POST", "/presets?name=bomb.png", bomb + chunk(b"IEND", b""))

    assert status == 422, words
    assert time.monotonic() - started < 2


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(
    ("asked", "kept"),
    [("..%2f..%2fx.png", "x"), ("%2e%2e.png", "background"), ("a%2fb%5cc.png", None)],
)
def test_an_upload_cannot_choose_where_it_lands(local, asked, kept):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 9)).save(buffer, "PNG")

    status, _, _ = local.ask("POST", f"/presets?name={asked}", buffer.getvalue())

    landed = list(paths.backgrounds_dir().parent.parent.rglob("*.png"))
    assert all(file.parent == paths.backgrounds_dir() for file in landed)
    if kept:
        assert status == 201
        assert [file.stem for file in landed] == [kept]


def test_too_large_an_upload_is_refused_before_it_is_read(local):
    with local.connect() as link:
        size = backdrops.MAX_UPLOAD + 1
        link.sendall(
            b"POST /presets?name=a.png HTTP/1.1\r\nHost: localhost\r\n"
            + f"Content-Length: {size}\r\n\r\n".encode()
        )

        assert b" 413 " in link.recv(4096)


def test_an_upload_that_hides_its_size_is_cut_off(local, monkeypatch):
    monkeypatch.setattr(backdrops, "MAX_UPLOAD", 10_000)
    runtime = PlayRuntime()
    with serve(runtime, socket_path=paths.runtime_dir() / "small.sock"):
        browser = Browser(paths.runtime_dir() / "small.sock")
        with browser.connect() as link, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            link.sendall(
                b"POST /presets?name=a.png HTTP/1.1\r\nHost: localhost\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            for _ in range(40):
                link.sendall(b"400\r\n" + b"x" * 0x400 + b"\r\n")
            link.sendall(b"0\r\n\r\n")
            assert b" 413 " in link.recv(4096)
        assert browser.ask("GET", "/status")[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"1",
        b"nul",
        b'{"background": 1}',
        b'{"background": {"blur": NaN}}',
        b'{"background": {"blur": 1e999}}',
        b'{"background": {"blur": true}}',
        b'{"background": {"use": "a\\u0000b"}}',
        b'{"background": {"use": "\\ud800"}}',
        b'{"x":' * 2000 + b"1" + b"}" * 2000,
        b"\xff\xfe",
        b'{"__proto__": {"x": 1}}',
        b'{"background": {"use": {"$ref": "/etc/passwd"}}}',
        b'{"' + b"a" * 70_000 + b'": {}}',
    ],
)
def test_a_broken_change_is_refused_in_words_and_changes_nothing(local, runtime, body):
    before = runtime.settings.current

    status, _, words = local.ask("PATCH", "/settings", body)

    assert status in (413, 422), words
    assert b'"error"' in words
    assert runtime.settings.current == before


def test_garbage_instead_of_http_does_no_harm(local):
    for garbage in (
        b"\x00" * 4096,
        b"GET\r\n\r\n",
        b"\x16\x03\x01" + os.urandom(300),
        b"A" * 70_000,
    ):
        with local.connect() as link, contextlib.suppress(OSError):
            link.sendall(garbage)
            link.shutdown(socket.SHUT_WR)
            link.recv(4096)

    assert local.ask("GET", "/status")[0] == 200


def test_where_unix_sockets_are_missing_a_private_token_is_asked_for(home, runtime):
    path = home / "door"
    with serve(runtime, socket_path=path, unix=False):
        door = json.loads(path.read_text())
        browser = Browser(door["port"])

        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert browser.ask("GET", "/status")[0] == 403
        assert browser.ask("GET", "/status", headers={"Authorization": "Bearer x"})[0] == 403
        right = {"Authorization": f"Bearer {door['token']}"}
        assert browser.ask("GET", "/status", headers=right)[0] == 200
        assert browser.ask("GET", "/status", headers=right | {"Origin": "null"})[0] == 403


def test_two_pages_can_be_open_at_once(doors):
    first, second = Page(doors.open_page()), Page(doors.open_page())

    assert first.ask("GET", "/status", headers=first.signed)[0] == 200
    assert second.ask("GET", "/status", headers=second.signed)[0] == 200
