"""`vcam open`: the file that leads a browser to the page, and what is said and printed."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.control.doors import Page, until
from vcam.client import Client, browser
from vcam.control import note
from vcam.control.sessions import TOKEN_LIFE
from vcam.errors import DaemonError
from vcam.system import paths

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="snaps are Linux's")


def run(*words: str, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "vcam", *words],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_vcam_open_close_says_what_it_did(doors, client):
    page = Page(client.open_page())

    words = [run("open", "--close") for _ in range(2)]

    assert words == ["The settings page is closed.", "The settings page was not open."]
    with pytest.raises(ConnectionRefusedError):
        page.connect()


def test_the_file_is_this_users_alone_and_goes_when_its_word_was_used(doors, client):
    page = client.open_page_file(paths.runtime_dir())

    assert page.url in page.file.read_text()
    assert stat.S_IMODE(page.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(page.file.parent.stat().st_mode) == 0o700
    Page(page.url)
    assert not page.file.parent.exists()


def test_the_file_goes_when_its_word_is_too_old_and_when_the_door_closes(doors, clock):
    client = Client.connect()
    old = client.open_page_file(paths.runtime_dir()).file
    clock.ahead += TOKEN_LIFE + 1
    until(lambda: not old.parent.exists(), 10)

    young = client.open_page_file(paths.runtime_dir()).file
    client.close_page()
    assert not young.parent.exists()


def test_no_file_is_left_in_a_folder_that_others_may_write_to(doors, client, home):
    folder = home / "shared"
    folder.mkdir()
    folder.chmod(0o777)

    with pytest.raises(DaemonError, match="you alone"):
        client.open_page_file(folder)
    (home / "link").symlink_to(paths.runtime_dir())
    with pytest.raises(DaemonError, match="you alone"):
        client.open_page_file(home / "link")

    assert not list(folder.iterdir())


def test_a_file_that_a_killed_daemon_left_is_deleted_once_it_is_useless(home):
    folder = paths.runtime_dir()
    old, young = note.leave(folder, "http://old"), note.leave(folder, "http://young")
    past = time.time() - TOKEN_LIFE - 1
    os.utime(old, (past, past))

    note.leave(folder, "http://new")

    assert not old.parent.exists()
    assert young.exists()


@LINUX
def test_a_browser_that_is_a_snap_is_met_where_it_can_read(home, monkeypatch):
    tools = home / "bin"
    tools.mkdir()
    asked = tools / "xdg-mime"
    asked.write_text("#!/bin/sh\necho firefox_firefox.desktop\n")
    asked.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    applications = Path(os.environ["XDG_DATA_HOME"]) / "applications"
    applications.mkdir()
    entry = applications / "firefox_firefox.desktop"

    entry.write_text("[Desktop Entry]\nExec=env HINT=x /snap/bin/firefox %u\n")
    snap = browser.meeting_place()
    entry.write_text("[Desktop Entry]\nExec=/usr/lib/firefox/firefox %u\n")
    usual = browser.meeting_place()

    assert snap == Path(os.environ["XDG_RUNTIME_DIR"]) / "snap.firefox"
    assert stat.S_IMODE(snap.stat().st_mode) == 0o700
    assert usual == paths.runtime_dir()


def test_the_address_is_not_printed_where_the_journal_would_keep_it(doors):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        subprocess.run(
            [sys.executable, "-m", "vcam", "open"],
            env=os.environ | {"BROWSER": "true"},
            stdout=theirs.fileno(),
            check=True,
            timeout=60,
        )
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ours.recv(1000)

    assert "#" in run("open", BROWSER="true")


def test_open_starts_the_camera_where_none_runs_and_says_so_in_the_browser_where_it_cannot(
    tmp_path: Path,
):
    shown = tmp_path / "shown"
    opener = tmp_path / "opener"
    opener.write_text(f'#!/bin/sh\necho "$1" >> {shown}\n')
    opener.chmod(0o755)
    cache = os.environ.get("VCAM_TEST_CACHE") or str(Path("~/.cache").expanduser())
    environ = {"BROWSER": str(opener), "XDG_CACHE_HOME": cache, "VCAM_OUTPUT_SINK": "none"}

    said = run("open", **environ)

    try:
        assert Client.connect().status()["pid"]
        assert Page(said.splitlines()[0]).ask("GET", "/")[0] == 200
        until(lambda: shown.exists() and "open.html" in shown.read_text())
    finally:
        run("stop")

    done = subprocess.run(
        [sys.executable, "-m", "vcam", "open"],
        env=os.environ | environ | {"VCAM_OUTPUT_SINK": "nonsense", "DISPLAY": ":99"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 1
    told = Path(shown.read_text().splitlines()[-1].removeprefix("file://")).read_text()
    assert "nonsense" in told
    assert "nonsense" in done.stderr
