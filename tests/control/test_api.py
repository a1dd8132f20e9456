"""The command line's door: what it answers over the real socket."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.control.doors import Browser, PlayRuntime, pictures
from tests.fakes import room
from vcam import client as client_module
from vcam import manual
from vcam.client import Client
from vcam.compose import backdrops
from vcam.control.preview import encode
from vcam.control.server import serve
from vcam.errors import ConfigError, DaemonError, VcamError
from vcam.overlay import logos
from vcam.system import paths


def png(colour: tuple[int, int, int] = (10, 200, 30), size: tuple[int, int] = (64, 36)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_status_tells_what_the_daemon_does(client, runtime):
    told = client.status()

    assert told["state"] == "live"
    assert told["background"] == runtime.settings.current.background.use


def test_modes_change_at_once(client, runtime):
    for ask, expected in (
        (client.pause, "paused"),
        (client.freeze, "frozen"),
        (client.resume, "live"),
    ):
        ask()

        assert runtime.settings.mode == expected
        assert client.status()["mode"] == expected


def test_the_room_is_learnt_and_forgotten_by_word_and_its_map_is_no_picture_of_it(client, runtime):
    client.learn_room()
    client.forget_room()
    known = np.asarray(Image.open(io.BytesIO(client.room_map())))

    assert runtime.told == ["learn", "forget"]
    assert known.shape == (1, 16)
    assert set(np.unique(known)) == {0, 255}


def test_an_engine_that_learns_no_room_says_so(client, runtime):
    runtime.learns = False

    with pytest.raises(VcamError, match="not learnt") as caught:
        client.learn_room()

    assert "cpu" in caught.value.hint


def test_stop_answers_before_the_daemon_ends(client, runtime):
    client.stop()

    assert runtime.stopped.wait(2)


def test_a_setting_is_changed_and_told_back(client, runtime):
    answer = client.change({"background": {"use": "dusk", "blur": 20}, "camera": {"mirror": True}})

    now = runtime.settings.current
    assert (now.background.use, now.background.blur, now.camera.mirror) == ("dusk", 20, True)
    assert answer["values"] == client.settings()["values"] == now.model_dump()


def test_a_wrong_setting_is_refused_with_every_problem_and_changes_nothing(client, runtime):
    before = runtime.settings.current

    with pytest.raises(ConfigError) as caught:
        client.change({"background": {"blur": 500, "light_wrap": 0.5}, "matte": {"peeple": "x"}})

    assert len(caught.value.problems) == 2
    assert runtime.settings.current is before


def test_the_schema_describes_every_setting_in_words(client):
    told = client.settings()

    for section, keys in told["values"].items():
        for key in keys:
            described = told["schema"][section][key]
            assert described["description"], f"[{section}] {key}"
            assert "default" in described


def test_a_logo_is_kept_as_our_own_png_and_named_by_nobody(client, runtime, home):
    Image.new("RGBA", (3000, 300), (200, 0, 0, 90)).save(home / "mark.png")
    Image.new("RGB", (64, 36), (0, 0, 200)).save(home / "mark.jpg", comment=b"where I live")

    client._fetch("POST", "/logo", (home / "mark.png").read_bytes())
    kept = Path(runtime.settings.current.overlay.logo)
    assert kept.parent == paths.logos_dir()
    with Image.open(kept) as image:
        assert (image.format, image.mode, image.width) == ("PNG", "RGBA", 1024)
    with Image.open(io.BytesIO(client._fetch("GET", "/logo.png"))) as image:
        assert image.width == 320

    client._fetch("POST", "/logo", (home / "mark.jpg").read_bytes())
    second = Path(runtime.settings.current.overlay.logo)
    assert b"where I live" not in second.read_bytes()
    logos.sweep(str(second))
    assert list(paths.logos_dir().iterdir()) == [second]

    client._fetch("DELETE", "/logo")
    assert not runtime.settings.current.overlay.logo
    with pytest.raises(VcamError, match="no logo"):
        client._fetch("GET", "/logo.png")


@pytest.mark.parametrize(
    "sent",
    [b"", b"no picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x89PNG\r\n\x1a\n" * 9],
)
def test_what_is_no_picture_becomes_no_logo(client, runtime, sent):
    with pytest.raises(VcamError, match="the logo") as refused:
        client._fetch("POST", "/logo", sent)

    assert ".part" not in str(refused.value)
    assert not runtime.settings.current.overlay.logo
    assert not list(paths.logos_dir().glob("*")) if paths.logos_dir().exists() else True


def test_a_picture_becomes_a_preset_with_a_thumbnail_and_goes_away_again(client, home):
    file = home / "Holiday at sea.png"
    file.write_bytes(png())

    made = client.add_preset(file)

    assert made == {"name": "Holiday at sea", "kind": "picture"}
    assert "Holiday at sea" in [preset["name"] for preset in client.presets()]
    status, headers, thumb = Browser(paths.socket_path()).ask(
        "GET", "/presets/Holiday%20at%20sea/thumbnail"
    )
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(thumb)).size == (256, 144)

    client.remove_preset("Holiday at sea")

    assert "Holiday at sea" not in [preset["name"] for preset in client.presets()]


def test_a_deleted_background_comes_back_and_is_gone_for_good_a_minute_later(
    client, runtime, home, monkeypatch
):
    Image.new("RGB", (64, 36), (20, 200, 40)).save(home / "sea.png")
    client.add_preset(home / "sea.png")
    client.use("sea")

    client.remove_preset("sea")
    assert runtime.settings.current.background.use == "studio"
    assert "sea" not in [preset["name"] for preset in client.presets()]

    assert client.undo() == ["presets.sea"]
    assert runtime.settings.current.background.use == "sea"
    assert [path.name for path in paths.backgrounds_dir().iterdir()] == ["sea.png"]
    with pytest.raises(VcamError, match="nothing to take back"):
        client.undo()

    client.remove_preset("sea")
    client.add_preset(home / "sea.png")
    with pytest.raises(VcamError, match="there again"):
        client.undo()
    client.remove_preset("sea")
    monkeypatch.setattr(backdrops, "KEPT_FOR", 0.0)
    backdrops.sweep()
    assert list(paths.backgrounds_dir().iterdir()) == []
    with pytest.raises(VcamError, match="cannot be put back"):
        client.undo()


def test_a_deleted_look_comes_back_beside_those_that_were_kept_since(client):
    client.keep("Evening talk")
    client.remove_preset("Evening talk")
    client.keep("Morning")

    assert client.undo() == ["presets.Evening talk"]

    assert {"Evening talk", "Morning"} <= {preset["name"] for preset in client.presets()}


def test_a_drawn_preset_cannot_be_deleted(client):
    with pytest.raises(VcamError, match="not a background of yours"):
        client.remove_preset("studio")


def test_a_look_is_kept_chosen_stepped_to_and_deleted(client, runtime):
    client.change({"background": {"use": "coast", "light_wrap": 0.4}, "matte": {"smoothing": 0.9}})
    client.keep("Evening talk")
    client.change({"background": {"use": "slate", "light_wrap": 0.0}, "matte": {"smoothing": 0.1}})
    assert client.status()["preset"] == "slate"

    client.use("Evening talk")

    now = runtime.settings.current
    assert (now.background.use, now.background.light_wrap, now.matte.smoothing) == (
        "coast",
        0.4,
        0.9,
    )
    assert client.status()["preset"] == "Evening talk"
    look = client.presets()[-1]
    assert (look["name"], look["kind"], look["mine"]) == ("Evening talk", "look", True)
    assert Image.open(io.BytesIO(client.thumbnail("Evening talk"))).size == (256, 144)
    client.remove_preset("Evening talk")
    assert client.status()["preset"] == "coast"
    with pytest.raises(VcamError, match="not a preset"):
        client.use("Evening talk")


@pytest.mark.parametrize("name", ["studio", " ", "x" * 61, "a/b", "line\nbreak"])
def test_a_look_needs_a_name_of_its_own(client, name):
    with pytest.raises(VcamError):
        client.keep(name)

    assert not any(preset["mine"] for preset in client.presets())


def test_next_and_previous_go_round_through_every_preset(client, runtime):
    client.change({"background": {"use": "#123456"}})
    client.keep("Plain")
    names = [preset["name"] for preset in client.presets()]

    forth = [client.step(1) for _ in names]
    back = [client.step(-1) for _ in names]

    assert sorted(forth) == sorted(names)
    assert back == [*forth[-2::-1], forth[-1]]
    assert runtime.settings.current.background.use == "#123456"


def test_a_damaged_file_of_looks_is_no_reason_to_stumble(client, home):
    client.keep("Mine")
    file = paths.backgrounds_dir().parent / "looks.json"
    kept = json.loads(file.read_text())

    for text in ("", "[1]", '{"Mine": 3}', '{"Mine": {"background": {"use": 7}}}'):
        file.write_text(text)
        assert "Mine" not in [preset["name"] for preset in client.presets()]
    file.write_text(json.dumps(kept))

    assert "Mine" in [preset["name"] for preset in client.presets()]


def test_a_picture_dropped_into_the_folder_is_noticed(client):
    before = client.status()["presets_stamp"]
    folder = paths.backgrounds_dir()
    folder.mkdir(parents=True)

    (folder / "Garden.png").write_bytes(png())

    assert client.status()["presets_stamp"] != before
    assert "Garden" in [preset["name"] for preset in client.presets()]


def test_a_picture_is_placed_and_a_slider_is_one_change(client, home):
    folder = paths.backgrounds_dir()
    folder.mkdir(parents=True)
    (folder / "Garden.png").write_bytes(png())
    for zoom in (1.5, 2, 2.5):
        client.place("Garden", {"zoom": zoom})
    placed = {one["name"]: one["fitting"] for one in client.presets()}

    assert placed["Garden"]["zoom"] == 2.5
    assert placed["coast"] is None

    assert client.undo() == ["presets.Garden"]
    assert {one["name"]: one["fitting"] for one in client.presets()}["Garden"]["zoom"] == 1
    with pytest.raises(VcamError, match="expected x from"):
        client.place("Garden", {"zoom": 20})


def test_two_pictures_of_one_name_are_both_kept_and_the_same_one_once(client, home):
    for folder, shade in (("a", 10), ("b", 200)):
        (home / folder).mkdir()
        buffer = io.BytesIO()
        Image.new("RGB", (32, 18), (shade, 0, 0)).save(buffer, "PNG")
        (home / folder / "desk.png").write_bytes(buffer.getvalue())

    made = [client.add_preset(home / folder / "desk.png")["name"] for folder in ("a", "b", "a")]

    assert made == ["desk", "desk 2", "desk"]


def test_the_room_is_told_to_the_signed_in_page_alone(page, local, runtime):
    assert local.ask("POST", "/room")[0] == 404
    assert page.ask("POST", "/room")[0] == 403
    assert page.ask("POST", "/room", headers={"Origin": page.origin})[0] == 401
    assert page.ask("GET", "/room", headers=page.signed)[0] == 405
    foreign = page.signed | {"Origin": "http://elsewhere.example"}
    assert page.ask("POST", "/room", headers=foreign)[0] == 403

    status, headers, jpeg = page.ask("POST", "/room", headers=page.signed)

    assert (status, headers["content-type"]) == (200, "image/jpeg")
    assert headers["cache-control"] == "no-store"
    assert decode(jpeg)[10, 10, 2] > 200
    runtime.settings.set_mode("paused")
    assert page.ask("POST", "/room", headers=page.signed)[0] == 204


def test_the_written_description_is_up_to_date():
    written = Path(__file__).parents[2] / "docs" / "api.md"

    assert written.read_text(encoding="utf-8") == manual.api(), (
        "run: python -m vcam.manual api > docs/api.md"
    )


def test_figures_are_told_to_prometheus(local):
    status, headers, text = local.ask("GET", "/metrics")

    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b'vcam_state{state="live"} 1' in text
    assert b"vcam_frames_per_second 30" in text


def test_devices_and_findings_are_lists(client, local):
    assert set(client.devices()) == {"cameras", "virtual"}
    status, answer = local.json("GET", "/doctor")
    assert status == 200
    assert all({"severity", "what", "why", "command"} <= set(found) for found in answer["findings"])


def test_the_description_names_every_endpoint(local):
    status, told = local.json("GET", "/openapi.json")

    assert status == 200
    assert told["openapi"].startswith("3.")
    assert {"/status", "/settings", "/presets/{name}/thumbnail", "/events"} <= set(told["paths"])


def test_events_tell_a_change_at_once(doors, runtime):
    with Browser(paths.socket_path()).connect() as link:
        link.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        held = read_until(link, b'"background": "studio"')
        assert b"Content-Type: text/event-stream" in held
        started = time.monotonic()

        runtime.settings.change({"background": {"use": "coast"}})

        read_until(link, b'"background": "coast"')
        assert time.monotonic() - started < 0.9  # well before the next regular one


def read_until(link, wanted: bytes) -> bytes:
    held = b""
    while wanted not in held:
        piece = link.recv(65536)
        assert piece, held[-500:]
        held += piece
    return held


def test_preview_streams_the_frames_that_reach_a_sink(doors):
    seen = [decode(jpeg) for jpeg in pictures(paths.socket_path(), 4)]

    assert {image.shape for image in seen} == {(108, 192, 3)}
    bars = {int(image[54].sum(axis=1).argmax()) for image in seen}
    assert len(bars) > 1  # it moves
    assert abs(int(np.median(seen[0])) - 156) < 12


def decode(jpeg: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def test_a_large_frame_is_scaled_down_for_the_preview():
    image = decode(encode(PlayRuntime(1280, 720).latest()))

    assert image.shape[1] < 1280
    assert abs(image.shape[1] / image.shape[0] - 16 / 9) < 0.02


def test_a_frame_of_the_room_cannot_be_encoded():
    with pytest.raises(AttributeError):
        encode(room(0))  # type: ignore[arg-type]


def test_nothing_is_encoded_while_nobody_looks(doors, runtime):
    pictures(paths.socket_path(), 2)
    time.sleep(0.3)
    before = runtime.glances

    time.sleep(0.4)

    assert runtime.glances - before <= 1


def test_doors_close_within_half_a_second_while_previews_and_events_stream(runtime):
    with serve(runtime, socket_path=paths.socket_path()) as doors:
        links = [Browser(paths.socket_path()).connect() for _ in range(4)]
        for link, path in zip(
            links, ("/preview.mjpg", "/preview.mjpg", "/events", "/events"), strict=True
        ):
            link.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert link.recv(100)
        doors.open_page()
        started = time.monotonic()

    took = time.monotonic() - started
    for link in links:
        link.close()
    assert took < 0.5
    assert not paths.socket_path().exists()


def test_a_stale_socket_is_replaced(runtime):
    with serve(runtime, socket_path=paths.socket_path()):
        pass
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(paths.socket_path()))
    left.close()

    with serve(runtime, socket_path=paths.socket_path()):
        assert Client.connect().status()["state"] == "live"


def test_without_a_daemon_the_client_says_how_to_start_one():
    with pytest.raises(DaemonError) as caught:
        Client.connect().status()

    assert str(caught.value.message) == "VBG Camera is not running"
    assert "vcam start" in caught.value.hint


def test_an_old_command_and_a_new_daemon_give_a_clear_sentence(client, monkeypatch):
    monkeypatch.setattr(client_module, "__version__", "99.1.0")

    with pytest.raises(DaemonError) as caught:
        client.pause()

    assert "this command is version '99.1.0'" in caught.value.message
    assert "vcam stop" in caught.value.hint
    client.status()  # what ends or explains the mismatch still works
    client.stop()


def test_many_clients_at_once_are_all_answered(client, runtime):
    faults: list[Exception] = []

    def work(number: int) -> None:
        try:
            for step in range(10):
                client.change({"background": {"blur": (number * 10 + step) % 101}})
                client.status()
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert not faults
    assert runtime.settings.revision > 0
