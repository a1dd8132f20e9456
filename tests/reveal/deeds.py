"""Deeds at every door, and the one thing that must hold after any sequence of them.

`python -m tests.reveal --sequences 20000` runs as many random sequences and says what they saw.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.reveal.house import NAMES, House
from vcam.client import Client
from vcam.errors import VcamError
from vcam.settings.choice import Reveal
from vcam.settings.config import Config

Deed = Callable[[House, Client, random.Random], bool | None]
# A deed answers True if it was the user's word to show the room, False if it chose anything else,
# and None if it leaves the last wish as it is.


def _moved(house: House, before: Config) -> bool:
    """True if another camera was chosen; how its picture is turned does not count."""
    now = house.wishes.current.camera.model_dump(exclude={"mirror"})
    return now != before.camera.model_dump(exclude={"mirror"})


def _names(dice: random.Random) -> str:
    return dice.choice((*NAMES, "studio", "slate", "Home", "Weak", "Blue", "blur "))


def _chosen(call: Callable[[], object]) -> bool | None:
    """False if what `call` chose was taken; None if it was refused and nothing changed."""
    try:
        return None if call() == 1 else False
    except VcamError:
        return None


def _patch(use: str, **more: object) -> Deed:
    def deed(house: House, client: Client, dice: random.Random) -> bool | None:
        return _chosen(lambda: client.change({"background": {"use": use, **more}}))

    return deed


def _word(call: Callable[[House, Client], object]) -> Deed:
    def deed(house: House, client: Client, dice: random.Random) -> bool | None:
        call(house, client)
        return True

    return deed


def _use(house: House, client: Client, dice: random.Random) -> bool | None:
    return _chosen(lambda: client.use(_names(dice)))


def _step(house: House, client: Client, dice: random.Random) -> bool | None:
    return _chosen(lambda: client.step(dice.choice((1, -1))))


def _command(house: House, client: Client, dice: random.Random) -> bool | None:
    name = dice.choice(NAMES)
    wish = dice.choice(
        (f"{house.folder}/{name}.png", f"preset:{name}", "next", "look:Home", "blur:3", "studio")
    )
    return None if house.cli("background", wish) else False


def _bare_word(house: House, client: Client, dice: random.Random) -> bool | None:
    assert house.cli("background", "none") != 0  # there is a picture of that name
    return None


def _keep(house: House, client: Client, dice: random.Random) -> bool | None:
    with contextlib.suppress(VcamError):
        client.keep(dice.choice(("Mine", "Ours")))
    return None


def _use_kept(house: House, client: Client, dice: random.Random) -> bool | None:
    return _chosen(lambda: client.use(dice.choice(("Mine", "Ours"))))


def _tray(*titles: str) -> Deed:
    def deed(house: House, client: Client, dice: random.Random) -> bool | None:
        house.tray(*titles)
        return False

    return deed


def _edit(house: House, client: Client, dice: random.Random) -> bool | None:
    use = dice.choice(("preset:none", f"{house.folder}/none.png", "slate", "blur:2", "#101010"))
    before = house.wishes.current
    standing = house.wishes.revealed is not None and house.wishes.revealed.standing
    house.edit(use)
    # A file that does not name the camera any more chooses another one.
    moved = _moved(house, before) and not standing
    same = use == before.background.use or house.outranked
    return None if same and not moved else False


def _edit_none(house: House, client: Client, dice: random.Random) -> bool | None:
    before, wish = house.wishes.current, house.wishes.revealed
    house.edit("none")
    if before.background.use != "none" and not house.outranked:
        return True
    moved = _moved(house, before)
    return False if moved and wish is not None and not wish.standing else None


def _pause(house: House, client: Client, dice: random.Random) -> bool | None:
    client.pause()
    standing = house.wishes.revealed is not None and house.wishes.revealed.standing
    return None if standing else False


def _toggle(house: House, client: Client, dice: random.Random) -> bool | None:
    standing = house.wishes.revealed is not None and house.wishes.revealed.standing
    return None if client.toggle() == "live" or standing else False


def _undo(house: House, client: Client, dice: random.Random) -> bool | None:
    """Take the last change back: a background may come, another camera too, the room never."""
    wish, before = house.wishes.revealed, house.wishes.current
    try:
        names = client.undo()
    except VcamError:
        return None
    moved = _moved(house, before) and wish is not None and not wish.standing
    return False if "background.use" in names or moved else None


def _set(house: House, client: Client, dice: random.Random) -> bool | None:
    assert house.cli("set", "background.use", "none") == 2
    return None if house.cli("set", "background.use", "preset:none") else False


def _restart(house: House, client: Client, dice: random.Random) -> bool | None:
    house.save()
    begin = dice.choice(
        (
            lambda: house.begin(),
            lambda: house.begin(VCAM_BACKGROUND_USE="none"),
            lambda: house.begin("--background", f"{house.folder}/none.png"),
        )
    )
    begin()
    return 'use = "none"' in house.file.read_text() and isinstance(
        house.wishes.current.background.choice, Reveal
    )


def _start_revealing(house: House, client: Client, dice: random.Random) -> bool | None:
    house.save()
    house.begin("--show-my-room")
    return True


def _leave(call: Callable[[House, Client], object]) -> Deed:
    def deed(house: House, client: Client, dice: random.Random) -> bool | None:
        call(house, client)
        return None

    return deed


def _lost(house: House, client: Client) -> None:
    house.step(camera=False)


def _idle(house: House, client: Client, dice: random.Random) -> bool | None:
    """Have nobody watch; the word was for those who saw the room."""
    wish, seen = house.wishes.revealed, house.pipe._bare
    house.step(watched=False)
    return None if wish is None or wish.standing or not seen else False


def _switch(house: House, client: Client, dice: random.Random) -> bool | None:
    """Choose another camera."""
    wish, before = house.wishes.revealed, house.wishes.current.camera.source
    client.change({"camera": {"source": dice.choice(("demo", "auto"))}})
    same = house.wishes.current.camera.source == before
    return None if wish is None or wish.standing or same else False


def _echo(house: House, client: Client, dice: random.Random) -> bool | None:
    """Send the whole section back as it was told, as a careless program does."""
    told = client.settings()["values"]["background"]
    revealed = house.wishes.revealed is not None
    try:
        client.change({"background": told})
    except VcamError:
        return None
    return None if revealed else False


def _none_beside_more(house: House, client: Client, dice: random.Random) -> bool | None:
    """Name the room among other things: an echo while it is shown, refused otherwise."""
    if house.wishes.revealed is None:
        with contextlib.suppress(VcamError):
            client.change({"background": {"use": "none", "light_wrap": 0.5}})
    return None


def _drop(house: House, client: Client, dice: random.Random) -> bool | None:
    """Upload a picture with a keyword's name."""
    with contextlib.suppress(VcamError):
        client.add_preset(house.folder / f"{dice.choice(NAMES)}.png")
    return None


DEEDS: dict[str, Deed] = {
    "word: the page": _word(lambda house, client: client.show_room()),
    "word: a program": _word(lambda house, client: client.change({"background": {"use": "none"}})),
    "word: --show-my-room": _word(lambda house, client: house.cli("background", "--show-my-room")),
    "word: the tray": _word(
        lambda house, client: house.tray("Background", "Show my room", "Yes, others")
    ),
    "word: weak blur": _word(
        lambda house, client: house.cli("background", "blur:3", "--show-my-room")
    ),
    "word: the file": _edit_none,
    "word: start": _start_revealing,
    "the word with a picture of that name": _bare_word,
    "a preset": _use,
    "next or previous": _step,
    "a command": _command,
    "patch: preset": _patch("preset:none"),
    "patch: weak blur": _patch("blur:0"),
    "patch: colour": _patch("#00ff00"),
    "patch: none beside more": _none_beside_more,
    "echo": _echo,
    "keep a look": _keep,
    "use a kept look": _use_kept,
    "tray: next": _tray("Background", "Next"),
    "tray: blur": _tray("Background", "Blur my room"),
    "tray: preset none": _tray("Background", "None"),
    "edit the file": _edit,
    "hide": lambda house, client, dice: (client.hide(), False)[1],
    "pause": _pause,
    "toggle": _toggle,
    "undo": _undo,
    "vcam set": _set,
    "freeze": _leave(lambda house, client: client.freeze()),
    "resume": _leave(lambda house, client: client.resume()),
    "camera lost": _leave(_lost),
    "nobody watches": _idle,
    "another camera": _switch,
    "restart": _restart,
    "upload": _drop,
    "save": _leave(lambda house, client: house.save()),
    "a slider": _leave(lambda house, client: client.change({"background": {"blur": 0}})),
    "mirror": _leave(lambda house, client: client.change({"camera": {"mirror": True}})),
}


@dataclass
class Seen:
    """What the sequences saw."""

    sequences: int = 0
    deeds: int = 0
    frames: int = 0
    revealed: int = 0  # frames that showed the room, after the user's word
    wrong: list[str] = field(default_factory=list)


def play(house: House, client: Client, names: list[str], seed: int, seen: Seen) -> None:
    """Do `names` in order; after each the room shows only if the last wish was to show it."""
    dice = random.Random(seed)
    house.file.unlink(missing_ok=True)
    house.begin()
    wish = False
    done: list[str] = []
    for name in names:
        done.append(name)
        answer = DEEDS[name](house, client, dice)
        wish = wish if answer is None else answer
        if (house.wishes.revealed is not None) != wish:
            seen.wrong.append(f"{done}, seed {seed}: the wish is {wish} and the state is not")
            return
        for _ in range(2):
            shown = house.step()
            if house.shows_room(shown):
                seen.revealed += 1
                if not wish or house.wishes.mode != "live":
                    seen.wrong.append(f"{done}, seed {seed}: the room is shown")
                    return
    seen.sequences += 1
    seen.deeds += len(names)
    seen.frames += 2 * len(names)
