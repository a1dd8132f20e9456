"""`vcam personalise`: a minute of one's own webcam, from which the network is taught on, here.

The pictures stay on this machine, in a folder that is deleted at the end. What learns is `train`,
in a process of its own: torch and the camera share none.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vcam.client import Client
from vcam.commands.options import load_config
from vcam.commands.personalise.lesson import taught
from vcam.commands.personalise.pictures import STEPS, capture
from vcam.commands.settings import change
from vcam.errors import DaemonError, SourceError, UsageError
from vcam.files.takes import Take
from vcam.foreign_text import say
from vcam.settings.config import load
from vcam.sources import check_source, opener_of, resolve
from vcam.system.interrupt import Interrupt
from vcam.system.paths import personal_dir
from vcam.words import _

if TYPE_CHECKING:
    from vcam.sources.base import Source

NEEDS: Final = ("torch", "safetensors", "nncf", "rich", "train")
BEFORE: Final = "before"  # file with the model that was set before one's own
_ROOT: Final = Path(__file__).resolve().parents[3]


def run(options: argparse.Namespace) -> int:
    """Take pictures and learn from them, or undo that; the exit code."""
    if options.remove:
        return remove()
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"what the network learns with is not installed: {', '.join(missing)}",
            hint=f"Run `{install_command()}`.",
        )
    with Interrupt() as interrupt, Take() as take:
        opened = _opener(options)
        _announce()
        capture(opened, STEPS, take, interrupt)
        say(_("That was all. Your pictures are learnt from now, for some ten minutes."))
        verdict = taught(take, interrupt)
        if options.keep:
            kept = personal_dir() / time.strftime("pictures-%Y-%m-%d-%H%M%S")
            take.keep(kept)
            say(_("The pictures are kept in {0}.", kept))
        settle(verdict)
    return 0


def install_command() -> str:
    """The command that installs what is missing."""
    pip = f"{sys.executable} -m pip install"
    if (_ROOT / "pyproject.toml").exists():
        return f"{pip} -e '{_ROOT}[train]'"
    sudo = "" if os.access(sys.prefix, os.W_OK) else "sudo "
    return f"{sudo}{pip} 'vbg-camera[train]'"


def _opener(options: argparse.Namespace) -> Callable[[], Source]:
    """Return the opener of the camera, once no daemon has it any more.

    Raises:
        SourceError: there is no camera.
    """
    config = load_config(options)
    if resolve(config.camera) == "demo":
        raise SourceError("no camera is connected", hint="Check the cable.")
    check_source(config.camera, config.output)
    with contextlib.suppress(DaemonError):
        client = Client.connect()
        client.pause()  # the webcam closes, and others see the card
        end = time.monotonic() + 10
        while client.status()["state"] != "paused":
            if time.monotonic() > end:
                raise SourceError("the daemon does not pause", hint="Run `vcam stop` first.")
            time.sleep(0.1)
        time.sleep(1)
        say(_("The virtual camera shows the privacy card until you run `vcam resume`."))
    return opener_of(config)


def _announce() -> None:
    say(_("A minute of pictures of you and your room is taken, four a second, in five steps."))
    say(_("They stay on this machine and are deleted at the end; Ctrl-C ends it at any time."))
    if sys.stdin.isatty():
        say(_("Press Enter when you are ready."))
        sys.stdin.readline()


def settle(verdict: dict[str, Any]) -> None:
    """Say what came of it, and use it from now on where it is better."""
    before, after = verdict["before"], verdict["after"]
    for text, key, digits in (
        (_("You, on seconds it has not seen (mIoU)"), "miou", 4),
        (_("The same with your room known"), "known", 4),
        (_("Your room taken for you"), "leak", 4),
        (_("Strange rooms taken for a person"), "rooms", 4),
        (_("Somebody else (mIoU)"), "stranger", 4),
    ):
        say(f"{text}: {before[key]:.{digits}f} → {after[key]:.{digits}f}")
    if not verdict["better"]:
        say(_("That is not better by enough: everything stays as it was."))
        return
    model = install(Path(verdict["model"]))
    chosen = load().matte.model
    if Path(chosen).parent != personal_dir():
        (personal_dir() / BEFORE).write_text(chosen, encoding="utf-8")
    change({"matte": {"model": str(model)}})
    for old in personal_dir().glob("network-*"):  # only now: until here it was the one in use
        if old.stem != model.stem:
            old.unlink()
    say(_("It is better and in use from now on. `vcam personalise --remove` takes it back."))


def install(model: Path) -> Path:
    """Put a network's files into the data directory, beside the one before; return its path.

    On the GPU it is the .safetensors beside it.
    """
    folder = personal_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    # Another name each time: a daemon that runs opens what is new to it.
    digest = hashlib.sha256(model.with_suffix(".bin").read_bytes()).hexdigest()[:8]
    name = f"network-{digest}"
    weights = model.with_name(f"{model.stem.removesuffix('-int8')}.safetensors")
    for file in (model.with_suffix(".bin"), model, weights):
        shutil.copyfile(file, folder / f"{name}{file.suffix}")
    suffix = ".safetensors" if load().matte.engine == "cuda" else ".xml"
    return folder / f"{name}{suffix}"


def remove() -> int:
    """Use the network that was set before again, and delete one's own; the exit code."""
    folder = personal_dir()
    before = folder / BEFORE
    if Path(load().matte.model).parent == folder:
        chosen = before.read_text(encoding="utf-8") if before.is_file() else "auto"
        exists = chosen == "auto" or Path(chosen).is_file()
        change({"matte": {"model": chosen if exists else "auto"}})
    own = [*folder.glob("network-*"), *folder.glob(BEFORE)]
    for file in own:
        file.unlink()
    say(_("Your own network is deleted.") if own else _("There is no network of your own."))
    if kept := sorted(folder.glob("pictures-*")):
        say(_("The pictures that you kept stay in {0}.", kept[0].parent))
    return 0
