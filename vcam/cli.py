"""The command line: its commands stand in `vcam/commands/`, `start` leads to `daemon.run`.

Nothing heavy is imported before a command needs it, so that `vcam --help` answers at once.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vcam import __version__, words
from vcam.errors import VcamError
from vcam.foreign_text import Parser, say
from vcam.settings.language import language_now
from vcam.words import _, told

QUALITIES = ("low", "balanced", "high")


HIDDEN = "complete"  # a command for the shells alone


class CommandLine(Parser):
    """Says which word of its own a mistyped one is nearest to."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        known = [str(each) for each in action.choices or () if each != HIDDEN]
        if not known or value == HIDDEN or value in known:
            return super()._check_value(action, value)
        near = difflib.get_close_matches(str(value), known, 1)
        if near:
            raise argparse.ArgumentError(
                action, _("{0} is not known; did you mean {1}?", repr(value), near[0])
            )
        known_ones = ", ".join(map(repr, known))
        raise argparse.ArgumentError(
            action, _("{0} is not known; choose from {1}", repr(value), known_ones)
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 usage, 3 config, 4 device."""
    # Its words go into the log, and whoever waits for it translates them.
    words.use("en" if os.environ.get("VCAM_DAEMON") else language_now())
    # It asks gettext, which reads compiled catalogues alone.
    setattr(argparse, "_", _)  # noqa: B010
    parser = build_parser()
    options = parser.parse_args(argv)
    if options.command is None:
        parser.print_help()
        return 2
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except VcamError as error:
        say(f"vcam: {told(error.message)}", file=sys.stderr)
        if error.hint:
            say(f"      {told(error.hint)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Every command and flag; completion and the manual page are made from it."""
    parser = CommandLine(
        prog="vcam",
        description=_("A virtual camera that shows you and never the room."),
        epilog=_("Start with `vcam start`, then choose VBG Camera in your meeting."),
    )
    shown = _("show program's version number and exit")
    parser.add_argument("--version", action="version", version=f"vcam {__version__}", help=shown)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def add(name: str, function: str, text: str) -> argparse.ArgumentParser:
        about: dict[str, Any] = (
            {"help": text, "description": f"{text[0].upper()}{text[1:]}{_('.')}"} if text else {}
        )
        command = commands.add_parser(name, **about)
        command.set_defaults(run=_command(function))
        return command

    start = add("start", "start.start", _("start the camera"))
    start.add_argument("--foreground", action="store_true", help=_("stay in this terminal"))
    start.add_argument("--source", metavar="S", help=_("camera, clip, picture or demo"))
    start.add_argument(
        "--sink", metavar="K", help=_("v4l2loopback, pipewire, obs, file:NAME.mp4, none")
    )
    start.add_argument("--background", metavar="B", help=_("picture, clip, preset, blur, #rrggbb"))
    start.add_argument("--show-my-room", action="store_true", help=_("others see your room"))
    start.add_argument("--config", metavar="FILE", type=Path, help=_("settings file"))
    start.add_argument("--page", action="store_true", help=_("open the settings page too"))

    add("stop", "start.stop", _("stop the camera"))
    status = add("status", "ask.status", _("show what the camera does"))
    status.add_argument("--json", action="store_true", help=_("everything, for programs"))
    _add_modes(add)
    background = add("background", "ask.background", _("choose a background, or list the presets"))
    background.add_argument(
        "background",
        nargs="?",
        metavar="B",
        help=_('file, preset, next, previous, blur, blur:N, "#rrggbb" or none'),
    )
    background.add_argument(
        "--save", metavar="NAME", help=_("keep the background and look in force under a name")
    )
    background.add_argument(
        "--show-my-room", action="store_true", help=_("others see your room, until a pause")
    )
    room = add("room", "room.run", _("how much of the room behind is known; learn or forget it"))
    room.add_argument(
        "what",
        nargs="?",
        choices=("learn", "forget"),
        help=_("learn: step aside for three seconds"),
    )
    get = add("get", "settings.get", _("show a setting, or all of them"))
    get.add_argument("key", nargs="?", metavar="KEY", help=_("section.key"))
    set_ = add("set", "settings.set_", _("change a setting, now and for good"))
    set_.add_argument("key", metavar="KEY", help=_("section.key, as `vcam get` lists them"))
    set_.add_argument("value", metavar="VALUE", help=_("its new value"))
    add("undo", "settings.undo", _("take the last change back, for a minute"))
    devices = add(
        "devices", "devices.run", _("list cameras and virtual cameras, set camera controls")
    )
    devices.add_argument(
        "--set", metavar="NAME=VALUE", action="append", help=_("set a control and keep it")
    )
    devices.add_argument("--camera", metavar="C", help=_("the camera to set, else the first one"))
    devices.add_argument("--json", action="store_true", help=_("for programs"))
    doctor = add("doctor", "devices.doctor", _("find out why the camera does not show up"))
    doctor.add_argument("--json", action="store_true", help=_("for programs"))
    doctor.add_argument("--fix", action="store_true", help=_("run the commands that need no root"))
    page = add("open", "page.run", _("open the settings page in the browser"))
    page.add_argument("--close", action="store_true", help=_("close it, everywhere and at once"))
    add("tray", "tray.run", _("show the tray icon"))

    _add_tools(add)
    return parser


def _add_modes(add: Callable[[str, str, str], argparse.ArgumentParser]) -> None:
    """The commands that show others the card, or a still picture."""
    pause = add("pause", "ask.pause", _("show the privacy card; the webcam goes off"))
    pause.add_argument(
        "--back-in", metavar="TIME", help=_("the card counts down: 5m, 90s, 1h; you resume")
    )
    add("resume", "ask.resume", _("show yourself again"))
    add("toggle", "ask.toggle", _("pause or resume, for a keyboard shortcut"))
    add("freeze", "ask.freeze", _("keep showing the last picture of you"))


def _add_tools(add: Callable[[str, str, str], argparse.ArgumentParser]) -> None:
    """The commands that need no daemon."""
    render = add("render", "render.run", _("replace the background of pictures or a clip, offline"))
    render.add_argument("input", type=Path, metavar="INPUT", help=_("picture, folder or clip"))
    render.add_argument("-o", "--output", type=Path, metavar="OUTPUT", help=_("file or folder"))
    render.add_argument("--background", metavar="B", help=_("as for start"))
    render.add_argument("--quality", choices=QUALITIES, help=_("of the matte, else high"))
    render.add_argument("--alpha", type=Path, metavar="DIR", help=_("write mattes as grey PNGs"))
    render.add_argument("--force", action="store_true", help=_("replace what is there already"))
    render.add_argument("--config", metavar="FILE", type=Path, help=_("settings file"))

    own = add("personalise", "personalise.run", _("teach the network on with a minute of you"))
    own.add_argument("--source", metavar="S", help=_("camera or clip, as for start"))
    own.add_argument("--config", metavar="FILE", type=Path, help=_("settings file"))
    own.add_argument("--keep", action="store_true", help=_("do not delete the pictures"))
    own.add_argument(
        "--remove", action="store_true", help=_("delete that network, use the one before again")
    )

    bench = add("bench", "bench.run", _("measure the time per frame on this machine"))
    bench.add_argument("--json", action="store_true", help=_("for programs"))
    bench.add_argument("--frames", metavar="N", type=int, default=150, help=_("frames per case"))
    bench.add_argument("--case", metavar="NAME", action="append", help=_("this case alone"))
    bench.add_argument("--quality", default="balanced", choices=QUALITIES, help=_("of the matte"))
    bench.add_argument("--threads", metavar="N", type=int, default=1, help=_("for the model"))
    bench.add_argument("--model", metavar="FILE", default="auto", help=_("another person model"))
    bench.add_argument("--peer", metavar="FILE", help=_("a model to compare with"))
    bench.add_argument(
        "--peer-pipeline", metavar="CMD", help=_("another program, on the same frames by turns")
    )
    bench.add_argument("--look", action="store_true", help=_("what light and sharpness cost"))
    bench.add_argument("--engine", default="cpu", choices=("cpu", "cuda"), help=_("to measure"))
    bench.add_argument("--check", action="store_true", help=_("cuda: compare composites, too"))

    update = add("update", "update.run", _("ask whether a newer version is out"))
    update.add_argument(
        "--check", action="store_true", required=True, help=_("ask, and install nothing")
    )

    # For the shells alone: no help lists it.
    complete = add(HIDDEN, "complete.run", "")
    complete.add_argument("kind", choices=("backgrounds", "cameras", "sinks", "keys", "values"))
    complete.add_argument("of", nargs="?", default="", metavar="KEY")

    config = add(
        "config", "settings.file", _("settings: where they are, all of them, or check the file")
    )
    config.add_argument("what", nargs="?", choices=("path", "show", "check"), default="path")
    config.add_argument("--config", metavar="FILE", type=Path, help=_("settings file"))


def _command(function: str) -> Callable[[argparse.Namespace], int]:
    """`vcam.commands.FUNCTION`, imported when it is called."""
    module, _, name = function.partition(".")

    def run(options: argparse.Namespace) -> int:
        command: Callable[[argparse.Namespace], int] = getattr(
            importlib.import_module(f"vcam.commands.{module}"), name
        )
        return command(options)

    return run


if __name__ == "__main__":
    sys.exit(main())
