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


def asked(made, found, seconds=STAYS + 0.2):
    """What is said from now on, until nothing new can come."""
    end, said = time.monotonic() + seconds, []
    while time.monotonic() < end:
        said.append(made.names())
        time.sleep(0.02)
    return [names for names in said if names != found]


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
        named = until(watched.names)
    finally:
        end(process)

    assert len(named) == 1
    assert named[0].startswith("python")
    until(lambda: watched.names() == [])


def test_the_process_that_keeps_the_device_open_for_us_is_nobody(watched):
    keeper = subprocess.Popen(["sleep", "60"], pass_fds=[watched._fd])  # opened by us, not by it
    try:
        until(watched.names)
        watched.leave_out(keeper.pid)

        assert asked(watched, []) == []
    finally:
        keeper.kill()
        keeper.wait()


def test_a_program_that_only_looks_is_nobody(watched, node):
    process = hold(node)
    first = watched.names()
    end(process)

    assert first == []
    assert asked(watched, []) == []


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
        named = until(made.names)
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


def test_equal_events_in_a_row_which_are_told_as_one_leave_nobody_behind(node, monkeypatch):
    """Two that are closed at once, as by a program that ends, are one event."""
    monkeypatch.setattr(watchers, "holders", lambda path: [])
    fd = os.open(node, os.O_RDWR)
    made = Consumers(node, fd)
    try:
        one = os.open(node, os.O_RDONLY)
        made.names()
        two = os.open(node, os.O_RDONLY)
        until(lambda: made.names() == [UNKNOWN])
        os.close(one)
        os.close(two)
        until(lambda: made.names() == [])
        assert asked(made, []) == []
    finally:
        made.close()
        os.close(fd)


class Module:
    """What the kernel counts, and how much of that belongs to processes that can be seen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.users = self.seen = 1  # ourselves
        monkeypatch.setattr(watchers, "_module_users", lambda path: self.users)
        monkeypatch.setattr(watchers, "loopback_openings", lambda without: self.seen)
        monkeypatch.setattr(watchers, "holders", lambda path: [])


def test_a_hidden_program_counts_as_long_as_the_kernel_counts_it(node, monkeypatch):
    module = Module(monkeypatch)
    fd = os.open(node, os.O_RDWR)
    made = Consumers(node, fd)
    try:
        until(lambda: made._least == 0 or made.names())
        hidden = os.open(node, os.O_RDONLY)
        module.users = 2
        until(lambda: made.names() == [UNKNOWN])
        for _ in range(3):  # others look at the device meanwhile
            os.close(os.open(node, os.O_RDONLY))
            assert asked(made, [UNKNOWN]) == []
        os.close(hidden)
        module.users = 1
        until(lambda: made.names() == [])
        assert asked(made, []) == []
    finally:
        made.close()
        os.close(fd)


def test_a_hidden_program_at_another_device_is_nobody(node, monkeypatch):
    module = Module(monkeypatch)
    fd = os.open(node, os.O_RDWR)
    made = Consumers(node, fd)
    try:
        until(lambda: made._least == 0 or made.names())
        module.users = 2
        assert asked(made, []) == []
    finally:
        made.close()
        os.close(fd)


def test_the_service_manager_that_keeps_the_device_open_is_nobody(node, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/user/0/systemd/notify")
    monkeypatch.setattr(watchers, "holders", lambda path: [Holder(os.getppid(), "systemd")])
    fd = os.open(node, os.O_RDWR)
    made = Consumers(node, fd)
    said = asked(made, [])
    made.close()
    os.close(fd)

    assert said == []


def test_processes_are_not_searched_while_nothing_happens(watched, monkeypatch):
    searched = []
    asked(watched, [])
    monkeypatch.setattr(watchers, "holders", lambda path: searched.append(path) or [])

    assert asked(watched, []) == []
    assert searched == []


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
    assert made.names()
    until(lambda: made.names() == ["zoom"])

    said.append((v4l2.CLIENT_USAGE, 0))
    assert made.names() == []


def test_a_stream_without_a_visible_program_is_unknown(told, monkeypatch):
    made, said = told
    monkeypatch.setattr(watchers, "holders", lambda path: [Holder(os.getpid(), "vcam")])

    said.append((v4l2.CLIENT_USAGE, 1))

    assert made.names() == [UNKNOWN]
    assert asked(made, [UNKNOWN]) == []


def test_a_second_stream_is_not_called_by_the_name_of_the_first(told, monkeypatch):
    made, said = told
    monkeypatch.setattr(watchers, "holders", lambda path: [Holder(9, "zoom")])
    said.append((v4l2.CLIENT_USAGE, 1))
    until(lambda: made.names() == ["zoom"])
    said.append((v4l2.CLIENT_USAGE, 0))
    made.names()

    monkeypatch.setattr(watchers, "holders", lambda path: [Holder(12, "teams")])
    said.append((v4l2.CLIENT_USAGE, 1))

    assert made.names() == [UNKNOWN]
    until(lambda: made.names() == ["teams"])


@pytest.mark.parametrize("by_event", [True, False])
def test_a_search_that_hangs_holds_nobody_up(node, monkeypatch, by_event):
    """The frame loop asks: it gets the last answer, and no search runs on its thread."""
    go, searchers = threading.Event(), set()

    def slow(path):
        searchers.add(threading.get_ident())
        go.wait(30)
        return [Holder(9, "zoom")]

    monkeypatch.setattr(watchers, "holders", slow)
    monkeypatch.setattr(v4l2, "subscribe", lambda fd, event: by_event)
    monkeypatch.setattr(v4l2, "events", lambda fd: iter([(v4l2.CLIENT_USAGE, 1)]))
    other, fd = os.open(node, os.O_RDONLY), os.open(node, os.O_RDWR)
    made = Consumers(node, fd)
    os.close(os.open(node, os.O_RDONLY))
    try:
        begun = time.monotonic()
        said = [made.names() for _ in range(1000)]
        spent = time.monotonic() - begun
        assert not go.is_set()
        assert all(names in ([], [UNKNOWN]) for names in said)
        assert spent < 10  # a single search would take 30
        go.set()
        until(lambda: made.names() == ["zoom"])
    finally:
        go.set()
        made.close()
        os.close(fd)
        os.close(other)

    assert threading.get_ident() not in searchers
    assert len(searchers) == 1


def test_a_search_that_fails_is_tried_again(told, monkeypatch):
    made, said = told
    failed = []

    def first_fails(path):
        if not failed:
            failed.append(path)
            raise MemoryError
        return [Holder(9, "zoom")]

    monkeypatch.setattr(watchers, "holders", first_fails)
    said.append((v4l2.CLIENT_USAGE, 1))

    until(lambda: made.names() == ["zoom"])
    assert failed


def test_the_thread_that_searches_ends_with_the_device(node):
    def threads():
        return [
            one for one in threading.enumerate() if one.name == "watchers" and one not in before
        ]

    before: list[threading.Thread] = []
    before = threads()
    fd = os.open(node, os.O_RDWR)
    made = Consumers(node, fd)
    assert len(threads()) == 1
    made.close()
    os.close(fd)

    until(lambda: not threads())


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
