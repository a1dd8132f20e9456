"""The command line: `vcam start` leads to `vcam/daemon.py: run`, the rest talks to the daemon.

Nothing heavy is imported before a command needs it, so that `vcam --help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcam import __version__
from vcam.errors import ConfigError, DaemonError, UsageError, VcamError
from vcam.foreign_text import Parser, catch_last_words, log_to, plain, say

if TYPE_CHECKING:
    import logging

    from vcam.settings.choice import Reveal
    from vcam.settings.config import Config

LOG_SIZE = 1_000_000  # bytes, after which a log is begun anew and the last one kept
START_TIMEOUT = 60.0  # seconds until the first composite; a cold cache compiles kernels and model


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 usage, 3 config, 4 device."""
    parser = build_parser()
    options = parser.parse_args(argv)
    if options.command is None:
        parser.print_help()
        return 2
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except VcamError as error:
        say(f"vcam: {error}", file=sys.stderr)
        if error.hint:
            say(f"      {error.hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Every command and flag; completion and the manual page are made from it."""
    parser = Parser(
        prog="vcam",
        description="A virtual camera that shows you and never the room.",
        epilog="Start with `vcam start`, then choose VBG Camera in your meeting.",
    )
    parser.add_argument("--version", action="version", version=f"vcam {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def add(
        name: str, run: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(run=run)
        return command

    start = add("start", _start, "start the camera")
    start.add_argument("--foreground", action="store_true", help="stay in this terminal")
    start.add_argument("--source", metavar="S", help="camera, clip, picture or demo")
    start.add_argument(
        "--sink", metavar="K", help="v4l2loopback, pipewire, obs, file:NAME.mp4, none"
    )
    start.add_argument("--background", metavar="B", help="picture, clip, preset, blur, #rrggbb")
    start.add_argument("--show-my-room", action="store_true", help="others see your room")
    start.add_argument("--config", metavar="FILE", type=Path, help="settings file")
    start.add_argument("--page", action="store_true", help="print the settings page's address")

    add("stop", _stop, "stop the camera")
    status = add("status", _status, "show what the camera does")
    status.add_argument("--json", action="store_true", help="everything, for programs")
    add("pause", _mode("pause"), "show the privacy card; the webcam goes off")
    add("resume", _mode("resume"), "show yourself again")
    add("freeze", _mode("freeze"), "keep showing the last picture of you")
    background = add("background", _background, "choose a background, or list the presets")
    background.add_argument(
        "background",
        nargs="?",
        metavar="B",
        help='file, preset, next, previous, blur, blur:N, "#rrggbb" or none',
    )
    background.add_argument(
        "--save", metavar="NAME", help="keep the background and look in force under a name"
    )
    background.add_argument(
        "--show-my-room", action="store_true", help="others see your room, until a pause"
    )
    devices = add("devices", _devices, "list cameras and virtual cameras, set camera controls")
    devices.add_argument(
        "--set", metavar="NAME=VALUE", action="append", help="set a control and keep it"
    )
    devices.add_argument("--camera", metavar="C", help="the camera to set, else the first one")
    devices.add_argument("--json", action="store_true", help="for programs")
    doctor = add("doctor", _doctor, "find out why the camera does not show up")
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.add_argument("--fix", action="store_true", help="run the commands that need no root")
    page = add("open", _open, "open the settings page in the browser")
    page.add_argument("--close", action="store_true", help="close it, everywhere and at once")
    add("tray", _tray, "show the tray icon")

    render = add("render", _render, "replace the background of pictures or a clip, offline")
    render.add_argument("input", type=Path, metavar="INPUT", help="picture, folder or clip")
    render.add_argument("-o", "--output", type=Path, metavar="OUTPUT", help="file or folder")
    render.add_argument("--background", metavar="B", help="as for start")
    render.add_argument("--alpha", type=Path, metavar="DIR", help="write mattes as grey PNGs")
    render.add_argument("--force", action="store_true", help="replace what is there already")
    render.add_argument("--config", metavar="FILE", type=Path, help="settings file")

    bench = add("bench", _bench, "measure the time per frame on this machine")
    bench.add_argument("--json", action="store_true", help="for programs")
    bench.add_argument("--frames", metavar="N", help="frames per case")
    bench.add_argument("--case", metavar="NAME", action="append", help="this case alone")
    bench.add_argument("--quality", metavar="Q", help="low, balanced or high")
    bench.add_argument("--threads", metavar="N", help="threads for the model")
    bench.add_argument("--model", metavar="FILE", help="another person model")
    bench.add_argument("--peer", metavar="FILE", help="a model to compare with")
    bench.add_argument("--engine", metavar="E", help="cpu or cuda: what to measure")
    bench.add_argument("--check", action="store_true", help="cuda: compare composites, too")

    config = add("config", _config, "settings: where they are, all of them, or check the file")
    config.add_argument("what", nargs="?", choices=("path", "show", "check"), default="path")
    config.add_argument("--config", metavar="FILE", type=Path, help="settings file")
    return parser


def _load(options: argparse.Namespace) -> Config:
    from vcam.settings.config import load

    return load(options.config, flags=_flags(options))


def _flags(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The settings that the command line gives, which outrank the file."""
    flags: dict[str, dict[str, Any]] = {}
    for option, section, key in (
        ("source", "camera", "source"),
        ("sink", "output", "sink"),
        ("background", "background", "use"),
    ):
        value = getattr(options, option, None)
        if value is not None and not (option == "background" and _revealing(options)):
            flags.setdefault(section, {})[key] = _absolute(value, option)
    return flags


def _revealing(options: argparse.Namespace) -> Reveal | None:
    """The user's word to show the room, in `options` of `start` and `background`; else None.

    Raises:
        UsageError: the word is a file's or a preset's name too, or hides the room.
    """
    wish = options.background
    if not hasattr(options, "show_my_room"):
        return None
    from vcam.settings import choice

    if options.show_my_room:
        try:
            return choice.reveal_of(wish or "none")
        except ValueError as error:
            raise UsageError(
                f"--show-my-room shows no background {wish!r}, {error}",
                hint="Give --show-my-room alone.",
            ) from None
    if wish != "none":
        return None
    if Path(wish).exists():
        raise UsageError(
            "'none' is a file here, and the word for your room",
            hint="Give ./none for the file, or --show-my-room.",
        )
    if options.command == "start":  # no daemon runs that could be asked
        from vcam.compose import backdrops

        if "none" in {preset.name for preset in backdrops.presets()}:
            raise UsageError(
                "'none' is a background of yours, and the word for your room",
                hint="Give preset:none for the background, or --show-my-room.",
            )
    return choice.Reveal()


def _absolute(value: str, option: str) -> str:
    """Make a file name independent of the directory the daemon will run in."""
    if option == "background":
        return _absolute_background(value)
    from vcam.settings.choice import text_of

    prefix = "file:" if option == "sink" and value.startswith("file:") else ""
    path = Path(value.removeprefix(prefix))
    if option == "source" and value in ("", "auto", "demo"):
        return value  # whatever lies here under that name
    if prefix or path.exists():
        text = str(path.absolute())
        return prefix + (text_of(text) if option == "source" else text)
    return value


def _absolute_background(value: str) -> str:
    """A path made absolute; a keyword, colour or preset as it is."""
    from vcam.compose import backdrops
    from vcam.settings import choice

    try:
        wish = choice.parse(value)
    except ValueError:
        return value  # who validates it says what is wrong
    if isinstance(wish, choice.File):
        return str(choice.File(str(Path(wish.path).expanduser().absolute())))
    if not isinstance(wish, choice.Preset) or not Path(wish.name).is_file():
        return value
    known = wish.name in {preset.name for preset in backdrops.presets()}
    return value if known else str(choice.File(str(Path(wish.name).absolute())))


def _start(options: argparse.Namespace) -> int:
    config = _load(options)
    if options.source is not None and not os.environ.get("VCAM_DAEMON"):
        from vcam.sources import check_source

        check_source(config.camera, config.output)
    if options.foreground:
        return _run_here(config, options)
    if _running() is not None:
        raise DaemonError(
            "VBG Camera runs already",
            hint="Run `vcam status` to see it, or `vcam stop` to end it.",
        )
    from vcam.system import paths, systemd

    asked = (options.source, options.sink, options.background, options.config)
    by_settings = not any(asked) and not options.show_my_room
    if by_settings and systemd.installed():
        systemd.start()
        say("VBG Camera runs. Choose it in your meeting.")
        return 0
    _check_background(options, config)
    log_path = paths.log_path()
    if log_path.exists() and log_path.stat().st_size > LOG_SIZE:
        log_path.replace(log_path.with_suffix(".log.1"))
    command = [sys.executable, "-m", "vcam", "start", "--foreground"]
    for flag in ("source", "sink", "background", "config"):
        value = getattr(options, flag)
        if value is not None:
            text = str(value.absolute()) if isinstance(value, Path) else _absolute(value, flag)
            command += [f"--{flag}", text]
    if options.show_my_room:
        command.append("--show-my-room")
    with log_path.open("ab") as log:
        at = log.tell()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/" if os.name == "posix" else None,
            env={**os.environ, "VCAM_DAEMON": "1"},
        )
    return _await_first_frame(child, log_path, at)


def _check_background(options: argparse.Namespace, config: Config) -> None:
    """Open a background that was typed, so that a wrong one is told of before anything starts."""
    from vcam.compose.backdrops import open_backdrop

    if options.background is not None and not _revealing(options):
        open_backdrop(config.background.choice, 64, 36, blur=config.background.blur).close()


def _await_first_frame(child: subprocess.Popen[bytes], log_path: Path, at: int) -> int:
    """Wait until the daemon shows somebody, waits for a watcher, or says why not."""
    deadline = time.monotonic() + START_TIMEOUT
    seen: dict[str, Any] = {}
    since_fault = None
    while time.monotonic() < deadline:
        if child.poll() is not None:
            return _tell_failure(child, log_path, at)
        with contextlib.suppress(DaemonError, OSError):
            seen = _client().status()
        if seen.get("frames", {}).get("composited"):
            say(f"VBG Camera runs: {_where(seen)}")
            return 0
        if seen.get("state") == "idle":
            say(f"VBG Camera is ready and waits for a program to use it: {_where(seen)}")
            return 0
        # While the model loads, for the first time and for long, there is no matte yet: no fault.
        if seen.get("state") == "fault" and seen.get("reason") != "starting":
            since_fault = since_fault or time.monotonic()
            if time.monotonic() - since_fault > 10:
                break
        else:
            since_fault = None
        time.sleep(0.1)
    if not seen:
        say(
            f"vcam: the camera still gets ready after {START_TIMEOUT:.0f} s: on a busy machine the "
            f"first start may take minutes.\n"
            f"      `vcam status` says when it is there; {log_path} what it does.",
            file=sys.stderr,
        )
        return 1
    problem = seen.get("engine", {}).get("problem")
    say(
        f"vcam: the camera runs but shows the privacy card: {problem or seen.get('reason', '?')}\n"
        f"      Run `vcam doctor`, or look into {log_path}.",
        file=sys.stderr,
    )
    return 1


def _tell_failure(child: subprocess.Popen[bytes], log_path: Path, at: int) -> int:
    with log_path.open("rb") as log:
        log.seek(at)
        lines = log.read().decode(errors="replace").splitlines()
    said = [i for i, line in enumerate(lines) if line.startswith("vcam: ")]
    say("\n".join(lines[said[-1] :] if said else lines[-5:]), file=sys.stderr)
    return child.returncode or 1


def _where(status: dict[str, Any]) -> str:
    sinks = ", ".join(sink["name"] for sink in status.get("sinks", [])) or "settings page alone"
    return plain(f"{status.get('source', {}).get('name', '?')} to {sinks}")


def _run_here(config: Config, options: argparse.Namespace) -> int:
    import logging

    from vcam import daemon

    log_to(
        _log_file() if os.environ.get("VCAM_DAEMON") else [logging.StreamHandler()],
        config.control.log.upper(),
        "%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    catch_last_words()
    logging.getLogger("aiohttp.access").setLevel("WARNING")
    daemon.run(
        config,
        config_path=options.config,
        flags=_flags(options),
        page=options.page,
        room=_revealing(options),
    )
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)  # everything is closed; taking the interpreter down would cost another second


def _log_file() -> list[logging.Handler]:
    """The log of a daemon that nobody watches: it never grows beyond twice `LOG_SIZE`."""
    from logging.handlers import RotatingFileHandler

    from vcam.system import paths

    return [
        RotatingFileHandler(
            paths.log_path(),
            maxBytes=LOG_SIZE,
            backupCount=1,
            encoding="utf-8",
            errors="backslashreplace",
        )
    ]


def _client() -> Any:
    from vcam.client import Client

    return Client.connect()


def _running() -> dict[str, Any] | None:
    try:
        status: dict[str, Any] = _client().status()
    except DaemonError:
        return None
    return status


def _stop(options: argparse.Namespace) -> int:
    from vcam.system import systemd

    client = _client()
    status = client.status()
    if systemd.installed() and systemd.under_manager():
        systemd.stop()
    else:
        client.stop()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not _alive(status["pid"]):
            say("VBG Camera has stopped.")
            return 0
        time.sleep(0.05)
    raise DaemonError(
        f"VBG Camera (process {status['pid']}) does not stop",
        hint=f"End it with `kill -9 {status['pid']}`.",
    )


def _alive(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError, OSError):
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    try:  # ended, and its parent has not asked how: nothing of it is left but a number
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def _status(options: argparse.Namespace) -> int:
    status = _client().status()
    if options.json:
        say(json.dumps(status, indent=2), limit=None)
        return 0
    reason = f" ({status['reason']})" if status.get("reason") else ""
    engine, latency = status["engine"], status["latency_ms"]
    watchers = plain(", ".join(status["watchers"])) or "nobody"
    say(f"state       {status['state']}{reason}")
    say(f"camera      {plain(status['source']['name'])}")
    for sink in status["sinks"]:
        say(f"output      {plain(sink['name'])}, {sink['width']}x{sink['height']}")
    say(f"background  {plain(status['background'])}")
    if status.get("revealed"):
        say(f"            OTHERS SEE YOUR ROOM, asked for by: {status['revealed']['by']}")
    say(f"watched by  {watchers}")
    say(f"speed       {status['fps']} fps, {latency['p50']} ms from camera to output")
    say(f"model       {engine.get('model')} on {engine.get('device')}, {engine.get('precision')}")
    say(f"costs       {status['cpu_percent']} % of a core, {status['rss_mb']} MB")
    for problem in (*status["problems"], engine.get("problem"), status["config_problem"]):
        if problem:
            say(f"note        {problem}")
    return 0


def _mode(name: str) -> Callable[[argparse.Namespace], int]:
    words = {"pause": "Paused: others see the card.", "resume": "Live.", "freeze": "Frozen."}

    def run(options: argparse.Namespace) -> int:
        getattr(_client(), name)()
        say(words[name])
        return 0

    return run


def _background(options: argparse.Namespace) -> int:
    wish = options.background
    how = _revealing(options)
    if wish is None and options.save is None and how is None:
        return _list_presets()
    if wish is not None and wish.startswith("#"):
        from vcam.settings.config import load

        load(flags={"background": {"use": wish}})  # a typo needs no daemon to be told
    client = _client()
    if how is not None:
        _reveal(client, how, named=options.show_my_room)
    elif wish is not None:
        say(f"Background: {plain(_choose(client, wish))}")
    if options.save is not None:
        client.keep(options.save)
        say(f"Kept as {options.save!r}.")
    return 0


def _reveal(client: Any, how: Reveal, *, named: bool) -> None:
    """Show the room; `named` says that the user named the room itself, not by the word "none"."""
    if not named and "none" in {one["name"] for one in client.presets()}:
        raise UsageError(
            "'none' is a background of yours, and the word for your room",
            hint="Give preset:none for the background, or --show-my-room.",
        )
    client.show_room(str(how), by="command line")
    say(f"Background: {how}")
    say("Others see your room. A background, a pause or the end of the call hides it again.")


def _list_presets() -> int:
    from vcam.compose.library import entries

    running = _running()
    used = running["preset"] if running else None
    for entry in entries():
        say(f"{'*' if entry.name == used else ' '} {plain(entry.name):<16} {entry.kind}")
    say('  next, previous, blur, blur:N, "#rrggbb", none, or the path of a picture or clip')
    return 0


def _choose(client: Any, wish: str) -> str:
    """Take up what `vcam background` was given; a file becomes a preset first. Its name."""
    from vcam.compose.backdrops import MAX_UPLOAD
    from vcam.files import patience
    from vcam.settings import choice
    from vcam.settings.config import load

    if wish in ("next", "previous"):
        return str(client.step(1 if wish == "next" else -1))
    if wish.startswith("look:"):
        return str(client.use(wish.removeprefix("look:")))
    use = _absolute(wish, "background")
    load(flags={"background": {"use": use}})
    chosen = choice.parse(use)
    if isinstance(chosen, choice.Preset) and (
        chosen.name in {one["name"] for one in client.presets()}
    ):
        return str(client.use(chosen.name))
    # Too large a clip stays where it is and is used from there.
    if isinstance(chosen, choice.File):
        file = Path(chosen.path)
        if patience.within(file, lambda: file.is_file() and file.stat().st_size <= MAX_UPLOAD):
            return str(client.use(client.add_preset(file)["name"]))
    client.change({"background": {"use": use}})
    return wish


def _devices(options: argparse.Namespace) -> int:
    from vcam.commands.devices import run, set_controls

    if options.set:
        return set_controls(options.set, options.camera)
    return run(as_json=options.json)


def _doctor(options: argparse.Namespace) -> int:
    from vcam.doctor.checks import run

    return run(json=options.json, fix=options.fix)


def _open(options: argparse.Namespace) -> int:
    client = _client()
    if options.close:
        closed = client.close_page()
        say("The settings page is closed." if closed else "The settings page was not open.")
        return 0
    from vcam.client import browser

    page = browser.page_file(client)
    if browser.has_reader(sys.stdout):
        say(f"{page.url}\nThis address works once; paste it if no browser opens.")
    browser.show(page.file)
    return 0


def _tray(options: argparse.Namespace) -> int:
    from vcam.tray.app import run

    return run()


def _render(options: argparse.Namespace) -> int:
    if options.output is None and options.alpha is None:
        raise UsageError("render has nowhere to write to", hint="Give -o OUTPUT or --alpha DIR.")
    config = _load(options)
    import logging

    from vcam.commands.render import render

    log_to([logging.StreamHandler()], "WARNING", "vcam: %(message)s")
    report = _progress()
    try:
        failures = render(
            options.input,
            options.output,
            config,
            alpha=options.alpha,
            report=report,
            force=options.force,
        )
    finally:
        report("", 1, 1)
    if options.output is not None:
        say(f"wrote {plain(options.output, None)}")
    if options.alpha is not None:
        say(f"wrote mattes to {plain(options.alpha, None)}")
    return 1 if failures else 0


def _progress() -> Callable[[str, int, int], None]:
    """Tell how far the work is, in one line of a terminal that is wiped at the end."""
    begun = last = time.monotonic()

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        now, ended = time.monotonic(), bool(total) and done >= total
        if not sys.stderr.isatty() or (now - last < 0.1 and not ended):
            return
        last = now
        left = f", {(now - begun) / done * (total - done):.0f} s left" if done and total else ""
        line = "" if ended else f"{what}: {done} of {total or '?'}{left}"
        sys.stderr.write(f"\r\x1b[K{plain(line, 76)}")
        sys.stderr.flush()

    return report


def _bench(options: argparse.Namespace) -> int:
    from vcam.commands.bench import run

    argv = [f"--{flag}" for flag in ("json", "check") if getattr(options, flag)]
    for flag in ("frames", "quality", "threads", "model", "peer", "engine"):
        if getattr(options, flag) is not None:
            argv += [f"--{flag}", getattr(options, flag)]
    return run([*argv, *(word for name in options.case or () for word in ("--case", name))])


def _config(options: argparse.Namespace) -> int:
    from vcam.settings import config

    path = options.config or config.user_path()
    if options.what == "path":
        say(path)
    elif options.what == "show":
        say(config.default_path().read_text(encoding="utf-8").rstrip("\n"), limit=None)
    else:
        if not path.exists():
            if options.config:
                raise ConfigError(
                    f"{path} does not exist", hint="Give the path of a settings file."
                )
            say(f"{path} does not exist; the defaults are used.")
            return 0
        config.load(path)
        say(f"{path} is fine.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
