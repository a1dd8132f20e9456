"""Who watches: by the module's word, or by who holds the device."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from vcam.sinks import watchers
from vcam.sinks.watchers import STAYS, UNKNOWN, Consumers
from vcam.system import v4l2
from vcam.system.devices import Holder

HOLD = "import sys; f = open(sys.argv[1]); print(1, flush=True); sys.stdin.read()"


@pytest.fixture
def node(tmp_path):
    file = tmp_path / "video10"
    file.touch()
    return str(file)


@pytest.fixture
def watched(node):
    """By a module that says nothing: a file knows no ioctl."""
    fd = os.open(node, os.O_RDWR)
    made = Consumers(node, fd)
    yield made
    made.close()
    os.close(fd)


def until(true, seconds=20.0):
    """Wait for something to become true: who it is is looked up aside."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)
    return found


def hold(node):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, node], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline()
    return process


def end(process):
    process.communicate(timeout=20)


def test_nobody_watches_at_first(watched):
    assert not watched.told
    assert watched.names() == []


def test_a_program_that_stays_is_named_and_gone_when_it_leaves(watched, node):
    process = hold(node)
    try:
        watched.names()
        time.sleep(STAYS + 0.05)
        named = watched.names()
    finally:
        end(process)

    assert len(named) == 1
    assert named[0].startswith("python")
    assert watched.names() == []


def test_a_program_that_only_looks_is_nobody(watched, node):
    process = hold(node)
    first = watched.names()
    end(process)

    assert first == []
    assert watched.names() == []


def test_a_program_that_cannot_be_seen_is_unknown(watched, node, monkeypatch):
    monkeypatch.setattr(watchers, "holders", lambda path: [])
    other = os.open(node, os.O_RDONLY)
    assert watched.names() == []
    time.sleep(STAYS + 0.05)
    hidden = watched.names()
    os.close(other)

    assert hidden == [UNKNOWN]
    assert watched.names() == []


def test_a_program_that_was_there_before_is_named(node):
    process = hold(node)
    fd = os.open(node, os.O_RDWR)
    made = Consumers(node, fd)
    try:
        made.names()
        time.sleep(STAYS + 0.05)
        named = made.names()
    finally:
        end(process)
        made.close()
        os.close(fd)

    assert len(named) == 1


def test_a_program_that_was_there_before_and_leaves_does_not_hide_the_next(node, monkeypatch):
    monkeypatch.setattr(watchers, "holders", lambda path: [])
    before, fd = os.open(node, os.O_RDONLY), os.open(node, os.O_RDWR)
    made = Consumers(node, fd)
    try:
        os.close(before)
        made.names()
        other = os.open(node, os.O_RDONLY)
        made.names()
        time.sleep(STAYS + 0.05)
        hidden = made.names()
        os.close(other)
    finally:
        made.close()
        os.close(fd)

    assert hidden == [UNKNOWN]


def test_the_service_manager_that_keeps_the_device_open_is_nobody(node, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/user/0/systemd/notify")
    monkeypatch.setattr(watchers, "holders", lambda path: [Holder(os.getppid(), "systemd")])
    fd = os.open(node, os.O_RDWR)
    made = Consumers(node, fd)
    made.names()
    time.sleep(STAYS + 0.05)
    named = made.names()
    made.close()
    os.close(fd)

    assert named == []


def test_processes_are_not_searched_while_nothing_happens(watched, monkeypatch):
    watched.names()
    monkeypatch.setattr(watchers, "holders", lambda path: pytest.fail("searched"))

    for _ in range(100):
        assert watched.names() == []


@pytest.fixture
def told(node, monkeypatch):
    """By a module that says whether somebody streams; what it says is in the list."""
    said: list[tuple[int, int]] = []

    def events(fd):
        while said:
            yield said.pop(0)

    monkeypatch.setattr(v4l2, "subscribe", lambda fd, event: True)
    monkeypatch.setattr(v4l2, "events", events)
    fd = os.open(node, os.O_RDWR)
    made = Consumers(node, fd)
    yield made, said
    made.close()
    os.close(fd)


def test_the_modules_word_counts_and_who_merely_holds_the_device_does_not(told, monkeypatch):
    made, said = told
    monkeypatch.setattr(watchers, "holders", lambda path: [Holder(9, "zoom"), Holder(8, "zoom")])
    assert made.names() == []

    said.append((v4l2.CLIENT_USAGE, 1))
    assert made.names() == ["zoom"]

    said.append((v4l2.CLIENT_USAGE, 0))
    assert made.names() == []


def test_a_stream_without_a_visible_program_is_unknown(told, monkeypatch):
    made, said = told
    monkeypatch.setattr(watchers, "holders", lambda path: [Holder(os.getpid(), "vcam")])

    said.append((v4l2.CLIENT_USAGE, 1))

    assert made.names() == [UNKNOWN]


def test_who_is_in_the_way_is_waited_for_once_and_never_again(node, monkeypatch):
    """A sink that another program holds is opened once a second in the frame loop."""
    go = threading.Event()
    monkeypatch.setattr(watchers, "holders", lambda path: [Holder(9, "obs")])
    assert watchers.last_holders(node) == (Holder(9, "obs"),)

    def slow(path):
        go.wait(30)
        return [Holder(12, "other")]

    monkeypatch.setattr(watchers, "holders", slow)
    begun = time.monotonic()
    for _ in range(100):
        assert watchers.last_holders(node) == (Holder(9, "obs"),)
    spent = time.monotonic() - begun
    go.set()

    assert spent < 10
    until(lambda: watchers.last_holders(node) == (Holder(12, "other"),))
