"""The keeper: who may feed the camera, what is kept for whom, and when it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.fakes import StepClock
from tests.vcam.keeping import SIZE, H, Kept, W, keeping, until
from vcam.keeper import link as links
from vcam.keeper import messages, process, standby
from vcam.keeper.link import Link, LinkError
from vcam.keeper.messages import ATTACH, NAME, PIPEWIRE, VERSION, Message
from vcam.keeper.node import ERROR, PAUSED, STREAMING, UNCONNECTED
from vcam.keeper.pictures import SLOTS, Pictures
from vcam.system import systemd

CARD = bytes([9]) * SIZE


def attached(folder, width=W, device=None):
    """A link to the keeper there, which has the camera by then."""
    made = Link(folder, width, H)
    made.attach(30, device)
    return made


def picture(value):
    return np.full((H * 3 // 2, W), value, np.uint8)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(links, "_start", lambda folder: None)
    with keeping(tmp_path) as running:
        yield running


@pytest.fixture
def link(kept):
    made = attached(kept.folder, W)
    assert made.wait(5)
    yield made
    made.close()


def test_the_very_bytes_are_shown(kept, link):
    link.hold(picture(9), 0.5)
    link.show(picture(50), time.monotonic(), card=False)
    until(lambda: kept.node.shown)

    assert kept.node.shown == [bytes([50]) * SIZE]


def test_nothing_is_shown_before_there_is_a_card(kept, link):
    link.show(picture(50), time.monotonic(), card=False)
    link.hold(picture(9), 0.5)
    link.show(picture(51), time.monotonic(), card=False)
    until(lambda: kept.node.shown)

    assert bytes([50]) * SIZE not in kept.node.shown


def test_a_picture_from_before_the_card_is_not_shown_by_the_card_that_came_with_it(tmp_path):
    kept = Kept(tmp_path)
    door = process.listen(str(tmp_path))
    keeper = process.Keeper(door, str(tmp_path / NAME), kept.open)
    link = attached(tmp_path, W)
    for _ in ("the door", "the camera"):
        keeper.turn(1.0)
    link.show(picture(50), time.monotonic(), card=False)
    link.hold(picture(9), 0.5)
    keeper.turn(1.0)  # all of it at once
    link.show(picture(51), time.monotonic(), card=False)
    keeper.turn(1.0)
    shown = [*kept.node.shown]
    link.close()
    keeper.close()
    door.close()

    assert shown == [bytes([51]) * SIZE]


def test_the_camera_stays_for_the_next_daemon(kept, link):
    link.hold(picture(9), 0.5)
    link.show(picture(50), time.monotonic(), card=False)
    until(lambda: kept.node.shown)
    link.close()
    until(lambda: kept.node.shown[-1] == CARD)

    again = attached(kept.folder, W)
    assert again.wait(5)
    again.show(picture(60), time.monotonic(), card=False)
    until(lambda: kept.node.shown[-1] == bytes([60]) * SIZE)
    again.close()

    assert len(kept.nodes) == 1


def test_another_size_is_another_camera(kept, link):
    again = attached(kept.folder, 2 * W)
    assert again.wait(5)
    again.close()

    assert (kept.nodes[0].width, kept.nodes[0].closed) == (W, True)
    assert len(kept.nodes) == 2


def test_the_newest_daemon_is_the_one(kept, link):
    again = attached(kept.folder, W)
    assert again.wait(5)
    until(lambda: link.state == UNCONNECTED)
    with pytest.raises(LinkError):
        link.show(picture(1), time.monotonic(), card=True)
    again.close()


def test_the_daemon_hears_who_watches_and_when_pipewire_ends(kept, link):
    kept.node.turn(PAUSED)
    until(lambda: link.state == PAUSED)
    kept.node.turn(STREAMING)
    until(lambda: link.watched)
    assert link.node == 40
    kept.node.turn(ERROR)
    until(lambda: link.state == ERROR)

    assert kept.node.closed


def test_a_reader_that_died_with_every_buffer_makes_the_camera_anew(kept, link):
    link.hold(picture(9), 0.5)
    kept.node.starved = True
    link.show(picture(50), time.monotonic(), card=False)
    until(lambda: len(kept.nodes) == 2)

    assert kept.nodes[0].closed
    until(lambda: CARD in kept.node.shown)  # the first picture there is the card


def test_a_rate_is_offered_once_no_call_has_another(kept, link):
    link.announce(15)
    link.hold(picture(9), 0.5)
    until(lambda: kept.node.shown or link.show(picture(3), 0.0, card=True))
    assert kept.node.fps == 30
    kept.node.turn(PAUSED)
    until(lambda: kept.node.fps == 15)


def test_leaving_takes_the_camera_away(kept, link):
    link.leave(watched=False)

    assert kept.node.closed


def test_a_camera_that_is_left_in_a_call_goes_with_the_call(kept, link):
    link.leave(watched=True)
    time.sleep(0.3)
    assert not kept.node.closed

    kept.node.turn(PAUSED)
    until(lambda: kept.node.closed)


def test_a_daemon_that_comes_back_keeps_the_camera_that_was_left(kept, link):
    link.leave(watched=True)
    again = attached(kept.folder)
    assert again.wait(5)
    kept.node.turn(PAUSED)
    time.sleep(0.3)

    assert not kept.node.closed
    again.close()


def test_pictures_of_somebody_do_not_stay_behind_the_card(kept, link):
    for value in range(SLOTS):
        link.show(picture(value + 50), time.monotonic(), card=False)
    link.show(picture(9), time.monotonic(), card=True)

    left = b"".join(bytes(link._pictures.view(slot)) for slot in range(SLOTS))
    assert set(left) == {0, 9}


def test_the_door_is_this_users_alone(kept, link, monkeypatch):
    assert stat.S_IMODE((kept.folder / NAME).stat().st_mode) == 0o600
    monkeypatch.setattr(process, "process_of", lambda peer: 0)

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.connect(str(kept.folder / NAME))
        stranger.settimeout(5)

        assert stranger.recv(1) == b""
    assert link.state == STREAMING


def test_a_peer_is_ours_by_its_uid(monkeypatch):
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        assert messages.process_of(one) == os.getpid()
        monkeypatch.setattr(messages.os, "getuid", lambda: 4242)
        assert messages.process_of(one) == 0


@pytest.mark.parametrize("spoil", ["open to shrink", "small", "none", "noise", "long"])
def test_who_speaks_wrongly_is_shown_out_and_the_camera_goes_on(kept, link, spoil):
    # A picture in PipeWire is I420, and has no other length.
    length = W * H * 2 if spoil == "long" else W * H * 3 // 2
    fds, said = [], Message(ATTACH, slot=PIPEWIRE, size=(W, H), seq=length, fps=30).packed()
    if spoil == "open to shrink":
        fds = [os.memfd_create("open", os.MFD_ALLOW_SEALING)]
        os.ftruncate(fds[0], 1 << 20)
    elif spoil == "small":
        fds = [os.memfd_create("small", os.MFD_ALLOW_SEALING)]
        os.ftruncate(fds[0], SIZE)
        fcntl.fcntl(fds[0], fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    elif spoil == "long":
        fds = [os.dup(Pictures(W * H * 2).fd)]
    elif spoil == "noise":
        said = b"hello"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.connect(str(kept.folder / NAME))
        peer.settimeout(5)
        socket.send_fds(peer, [said], fds)

        assert peer.recv(1) == b""
    assert link.state == STREAMING
    assert len(kept.nodes) == 1


def test_it_makes_way_for_a_daemon_of_another_version(kept, link):
    said = Message(ATTACH, slot=PIPEWIRE, size=(W, H), seq=W * H * 3 // 2, fps=30).packed()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.connect(str(kept.folder / NAME))
        peer.send(said[:4] + bytes([VERSION + 1, 0]) + said[6:])

        until(lambda: kept.node.closed)
    assert link.state == UNCONNECTED


def test_it_stays_as_long_as_somebody_watches_and_ends_soon_after(tmp_path, monkeypatch):
    monkeypatch.setattr(links, "_start", lambda folder: None)
    clock = StepClock()
    clock.now = 0.0
    with keeping(tmp_path, clock) as kept:
        link = attached(tmp_path, W)
        assert link.wait(5)
        link.close()
        clock.now = 1000.0
        time.sleep(0.2)
        assert not kept.node.closed

        kept.node.turn(PAUSED)
        time.sleep(0.2)
        assert not kept.node.closed
        clock.now += process.LINGER + 1
        until(lambda: kept.node.closed)


def test_it_ends_when_its_folder_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(links, "_start", lambda folder: None)
    with keeping(tmp_path) as kept:
        link = attached(tmp_path, W)
        assert link.wait(5)
        link.close()
        (tmp_path / NAME).unlink()
        until(lambda: kept.node.closed)


def test_there_is_one_keeper(kept):
    assert process.listen(str(kept.folder)) is None


def test_without_a_keeper_the_link_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(links, "_start", lambda folder: None)

    with pytest.raises(LinkError, match="does not answer"):
        attached(tmp_path, W)


def test_the_process_starts_serves_and_loads_nothing_large(tmp_path):
    loaded = subprocess.run(
        [sys.executable, "-I", "-S", "-c",
         "import sys; sys.path.append(sys.argv[1]); import vcam.keeper.process as p; p.main; "
         "print(*sys.modules)",
         str(links.Path(links.vcam.__file__).parent.parent)],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip

    assert not {"numpy", "typing", "logging", "re", "subprocess", "vcam.errors"} & set(loaded)
    link = attached(tmp_path, W)  # the real one; PipeWire is not there
    assert not link.wait(10)
    link.close()
    (tmp_path / NAME).unlink()  # lets it end


def test_a_service_gives_the_keeper_a_unit_of_its_own(tmp_path):
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd/private").touch()
    for name in ("systemctl", "systemd-run"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    service = {
        "PATH": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path),
        "INVOCATION_ID": "1", "NOTIFY_SOCKET": "/run/notify",
    }  # fmt: skip

    command = systemd.apart(["keeper"], service)

    assert command[:2] == [str(tmp_path / "systemd-run"), "--user"]
    assert "--property=Type=forking" in command
    assert command[-2:] == ["--", "keeper"]
    assert systemd.apart(["keeper"], {**service, "INVOCATION_ID": ""}) == ["keeper"]


def loopback(tmp_path):
    """A stand-in for a device: what is written to it one after another can be read."""
    device = tmp_path / "video10"
    device.touch()
    return os.open(device, os.O_RDWR), device


def test_a_device_shows_the_card_once_its_daemon_is_gone_and_not_before(kept, tmp_path):
    fd, device = loopback(tmp_path)
    link = attached(kept.folder, W, fd)
    assert link.wait(5)
    link.hold(picture(9), 0.5)
    os.write(fd, bytes(SIZE))  # the daemon writes by itself
    time.sleep(0.3)
    assert device.stat().st_size == SIZE

    os.close(fd)
    link.close()
    until(lambda: device.stat().st_size >= 4 * SIZE)
    written = device.read_bytes()

    assert written == bytes(SIZE) + CARD * (len(written) // SIZE - 1)
    assert kept.nodes == []


def test_the_next_daemon_gets_the_very_descriptor_back_and_writes_alone(kept, tmp_path):
    fd, device = loopback(tmp_path)
    fcntl.flock(fd, fcntl.LOCK_EX)
    link = attached(kept.folder, W, fd)
    assert link.wait(5)
    assert link.process == os.getpid()
    link.hold(picture(9), 0.5)
    os.close(fd)
    link.close()

    again = links.kept_device(kept.folder)
    fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the same opening: its own lock is no bar
    other = os.open(device, os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    next_link = attached(kept.folder, W, again)
    assert next_link.wait(5)
    size = device.stat().st_size
    time.sleep(0.5)
    assert device.stat().st_size == size

    os.close(again)
    next_link.leave(watched=False)
    until(lambda: links.kept_device(kept.folder) is None)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)


def test_a_device_that_does_not_fit_is_let_go(kept, tmp_path):
    fd, _ = loopback(tmp_path)
    link = attached(kept.folder, W, fd)
    assert link.wait(5)
    link.close()
    os.close(fd)

    links.let_go(kept.folder)

    until(lambda: links.kept_device(kept.folder) is None)


def test_a_device_is_watched_while_another_process_has_it_open(tmp_path):
    fd, device = loopback(tmp_path)
    with contextlib.closing(standby.Standby(fd, W * H * 3 // 2)) as held:
        assert not held.watched
    fd = os.open(device, os.O_RDWR)
    with contextlib.closing(standby.Standby(fd, W * H * 3 // 2)) as held:
        with device.open() as opened:
            reader = subprocess.Popen(["sleep", "60"], stdin=opened)
        assert held.watched
        reader.kill()
        reader.wait()
