"""The room is shown by the user's own word alone: each way that was found, then random ones."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reveal.deeds import DEEDS, Seen, play
from tests.reveal.house import NAMES, House, house
from vcam import cli, running
from vcam.client import Client
from vcam.commands import options
from vcam.control import jobs
from vcam.errors import UsageError, VcamError
from vcam.settings import choice
from vcam.settings.choice import Blur, Colour, File, Look, Preset, Reveal, parse
from vcam.settings.live import Settings


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Client]]:
    with house(tmp_path_factory.mktemp("house") / "home") as found:
        yield found


@pytest.fixture
def fresh(home: tuple[House, Client]) -> tuple[House, Client]:
    home[0].file.unlink(missing_ok=True)
    home[0].begin()
    return home


def shown(house: House, frames: int = 3) -> list[bool]:
    """True for each of the next `frames` pictures that shows the room."""
    return [house.shows_room(house.step()) for _ in range(frames)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", Reveal()),
        ("blur", Blur()),
        ("blur:60", Blur(60)),
        ("#00ff00", Colour("#00ff00")),
        ("studio", Preset("studio")),
        ("preset:none", Preset("none")),
        ("look:blur", Look("blur")),
        ("/pictures/none.png", File("/pictures/none.png")),
        ("./none", File("./none")),
        ("file:none", File("none")),
        ("None", Preset("None")),
        ("next", Preset("next")),
    ],
)
def test_a_text_writes_one_choice(text: str, expected: choice.Choice):
    assert parse(text) == expected
    assert parse(str(expected)) == expected


@given(
    st.tuples(
        st.sampled_from(("", "preset:", "file:", "look:", "blur:", "none", "#", "~", "C:", "./")),
        st.text(st.characters(exclude_categories=("Cs", "Cc"))),
    ).map("".join)
)
def test_no_name_and_no_path_is_read_back_as_anything_else(name: str):
    for made in (Preset(name), File(name), Look(name), File(f"/somewhere/{name}")):
        assert parse(str(made)) == made


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("door", ["command", "preset", "upload", "settings", "file", "flag"])
def test_a_files_name_shows_no_room(fresh: tuple[House, Client], name: str, door: str):
    house, client = fresh
    path = f"{house.folder}/{name}.png"

    if door == "command":
        assert house.cli("background", path) == 0
    elif door == "preset":
        client.use(name)
    elif door == "upload":
        client.use(client.add_preset(Path(path))["name"])
    elif door == "settings":
        client.change({"background": {"use": str(Preset(name))}})
    elif door == "file":
        house.edit(str(Preset(name)))
    else:
        house.begin("--background", path)

    assert shown(house) == [False] * 3
    assert house.wishes.revealed is None
    grey = house.step().data[8:40, 100:180]
    assert abs(float(grey.mean()) - 93) < 3  # and the picture itself is there


def test_stepping_reaches_every_preset_and_never_the_room(fresh: tuple[House, Client]):
    house, client = fresh
    for one in client.presets():
        if one["name"] in ("Mine", "Ours", "Kept while shown"):  # of the tests before
            client.remove_preset(one["name"])
    names = [one["name"] for one in client.presets() if "use" in one["values"]["background"]]
    assert {"none", "blur", "next", "Weak"} <= set(names)

    seen = []
    for _ in names:
        seen.append(client.step(1))
        assert shown(house, 2) == [False] * 2
    assert sorted(seen) == sorted(names)


def test_a_look_of_an_older_release_hides_the_room_instead(fresh: tuple[House, Client]):
    house, client = fresh
    client.show_room()
    assert any(shown(house))

    assert house.cli("background", "Home") == 0

    assert shown(house) == [False] * 3
    assert house.wishes.current.background.use == "studio"


def test_the_bare_word_is_refused_where_something_else_has_that_name(fresh):
    house, _ = fresh

    assert house.cli("background", "none") == 2
    assert shown(house) == [False] * 3
    assert house.cli("background", "--show-my-room") == 0
    assert any(shown(house))


@pytest.mark.parametrize(
    "between",
    [
        ["freeze", "slate"],
        ["pause", "slate", "freeze"],
        ["lost", "slate", "freeze"],
        ["slate", "freeze"],
        ["idle", "slate", "freeze"],
        ["freeze"],
        ["freeze", "hide"],
        ["pause", "freeze"],
        ["pause", "resume"],
        ["slate", "blur:1", "freeze"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_what_follows_a_reveal_shows_no_room(fresh, between: list[str], steps: int):
    house, client = fresh
    shown(house)
    client.show_room()
    assert all(shown(house, 4)[1:])

    deeds = {
        "freeze": client.freeze,
        "pause": client.pause,
        "resume": client.resume,
        "hide": client.hide,
        "lost": lambda: house.step(camera=False),
        "idle": lambda: house.step(watched=False),
    }
    for deed in between:
        if deed in deeds:
            deeds[deed]()
        else:
            client.change({"background": {"use": deed}})
        after = [shown(house, 1) for _ in range(steps)]
        if deed not in ("lost", "idle"):
            assert not any(map(any, after))

    assert shown(house, 4) == [False] * 4


def test_a_word_at_the_doors_ends_with_the_daemon_and_the_files_own_does_not(fresh):
    house, client = fresh
    client.change({"background": {"use": "none"}})
    assert any(shown(house))
    house.save()
    house.begin()
    assert shown(house) == [False] * 3

    house.edit("none")
    assert any(shown(house))
    client.pause()
    client.resume()
    assert any(shown(house))
    house.begin()
    assert any(shown(house, 4))
    client.hide()
    house.save()
    house.begin()
    assert shown(house) == [False] * 3


def test_a_variable_shows_no_room(fresh: tuple[House, Client]):
    house, _ = fresh

    house.begin(VCAM_BACKGROUND_USE="none")

    assert shown(house) == [False] * 3
    assert house.wishes.current.background.use == "studio"


def test_no_look_keeps_the_room_and_none_is_called_like_a_word(fresh: tuple[House, Client]):
    house, client = fresh
    client.show_room()
    client.keep("Kept while shown")
    client.use("Kept while shown")
    assert shown(house) == [False] * 3

    house.edit("none")
    with pytest.raises(VcamError, match="does not remember"):
        client.keep("Room")
    for name in ("none", "blur", "blur:9", "next", "#ffffff", "preset:x", "file:x"):
        with pytest.raises(VcamError):
            client.keep(name)


def test_every_place_says_that_the_room_is_shown(fresh, caplog):
    house, client = fresh
    assert client.status()["revealed"] is None

    client.show_room()

    told = client.status()
    assert told["background"] == "none"
    assert told["revealed"]["by"]
    assert client.settings()["revealed"] is True
    shown(house)
    assert client.status()["frames"]["revealed"] > 0


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.sampled_from(list(DEEDS)), min_size=2, max_size=10), st.integers(0, 2**32 - 1))
def test_the_room_is_shown_only_while_that_was_the_last_wish(home, names: list[str], seed: int):
    seen = Seen()

    play(*home, names, seed, seen)

    assert seen.wrong == []


@pytest.mark.parametrize("broken", ["a pause", "a choice", "a kept picture"])
def test_the_sequences_find_each_gate_that_is_left_open(home, broken: str, monkeypatch):
    if broken == "a pause":
        monkeypatch.setattr(
            Settings,
            "set_mode",
            lambda self, mode: setattr(self, "now", self.now._replace(mode=mode)),
        )
    elif broken == "a choice":
        monkeypatch.setattr(
            Settings, "choose", lambda self, changes: self._change(changes, hide=False)
        )
    else:
        monkeypatch.setattr("vcam.frame.SafeFrame.matted", property(lambda self: True))
    house, client = home
    dice, seen = random.Random(5), Seen()
    for _ in range(300):
        names = dice.choices(list(DEEDS), k=10)
        play(house, client, names, dice.randrange(2**32), seen)
        if seen.wrong:
            break

    assert seen.wrong


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Backgrounds do not open before this is set, as from a disk that does not answer."""
    opened, real = threading.Event(), running.backdrop_of

    def wait(*args: object) -> object:
        opened.wait(20)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(running, "backdrop_of", wait)
    yield opened
    opened.set()


@contextlib.contextmanager
def asked(*calls: Callable[[], object]) -> Iterator[list[threading.Thread]]:
    """Each of `calls` under way on a thread of its own."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    yield threads
    for thread in threads:
        thread.join(20)


@pytest.mark.parametrize("standing", [False, True])
def test_the_room_is_hidden_while_the_background_that_was_chosen_opens(fresh, slow, standing: bool):
    house, client = fresh
    house.edit("none") if standing else client.show_room()
    assert shown(house, 5)[-1]
    with asked(lambda: client.change({"background": {"use": "forest"}})):
        assert not any(shown(house))
        slow.set()
    assert not any(shown(house))


def test_hide_waits_for_nothing(fresh):
    house, client = fresh
    client.show_room()
    assert shown(house, 5)[-1]
    change = {"matte": {"smoothing": 0.5}}
    house.wishes._changing.acquire()  # somebody opens something, and everybody waits for it
    with asked(*[lambda: client.change(change)] * jobs.WORKERS), asked(client.hide):
        visible = shown(house)
        house.wishes._changing.release()
    assert not any(visible)


@pytest.mark.parametrize("standing", [False, True])
def test_a_background_that_does_not_open_hides_the_room(fresh, standing: bool):
    house, client = fresh
    house.edit("none") if standing else client.show_room()
    assert shown(house, 5)[-1]
    with pytest.raises(VcamError):
        client.change({"background": {"use": "/pictures/gone.png"}})
    assert not any(shown(house))
    house.save()
    house.begin()
    assert not any(shown(house))


@pytest.mark.parametrize(
    "text",
    [
        '[background]\nuse = "forest"\nblurr = 3\n',
        '[background\nuse = "forest"\n',
        '[background]\nuse = "/pictures/gone.png"\n',
        None,
    ],
)
def test_a_file_that_does_not_say_it_any_more_shows_no_room(fresh, text: str | None):
    house, _ = fresh
    house.edit("none")
    assert shown(house, 5)[-1]
    house.file.unlink()
    if text is not None:
        house.file.write_text(text)
        os.utime(house.file, (1, 9))
    house.wishes.reload()
    assert not any(shown(house))
    house.edit("none")  # mended: its word counts again
    assert shown(house, 5)[-1]


@pytest.mark.parametrize("word", ["pause", "hide", "weaker"])
def test_a_word_counts_for_the_frame_that_is_being_drawn(fresh, monkeypatch, word: str):
    house, client = fresh
    client.show_room()
    assert shown(house, 5)[-1]
    real = house.pipe._compose

    def compose(*args: object) -> object:
        drawn = real(*args)  # type: ignore[arg-type]
        client.show_room("blur:20") if word == "weaker" else getattr(client, word)()
        return drawn

    monkeypatch.setattr(house.pipe, "_compose", compose)
    assert house.step().is_card


def test_the_last_picture_is_no_room(fresh):
    house, client = fresh
    client.show_room()
    assert shown(house, 5)[-1]
    house.pipe.leave()
    assert house.sink.frames[-1].is_card


@pytest.mark.parametrize("command", ["start", "background"])
def test_half_a_word_shows_no_room(command: str, capsys):
    with pytest.raises(SystemExit):
        cli.build_parser().parse_args([command, "--show"])
    assert "--show" in capsys.readouterr().err


def test_start_refuses_the_bare_word_where_a_background_has_that_name(fresh):
    typed = cli.build_parser().parse_args(["start", "--background", "none"])
    with pytest.raises(UsageError):
        options.revealing(typed)
