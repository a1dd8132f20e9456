"""The manual page and the shells' completions, made from the command line's own parser.

`python -m vcam.manual man|bash|zsh|fish` prints one of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import Final

from vcam import __version__
from vcam.cli import build_parser
from vcam.compose import shipped
from vcam.control import description
from vcam.control.api import Api
from vcam.foreign_text import say
from vcam.media import page

FILES: Final = (
    ("~/.config/vcam/config.toml", "Your settings; only the lines that differ from the default."),
    ("~/.local/share/vcam/backgrounds/", "Pictures and clips put here become presets."),
    ("~/.local/state/vcam/log/vcam.log", "The log, where systemd does not collect it."),
    ("/etc/modprobe.d/vcam.conf", "The virtual camera's name and number."),
)
EXITS: Final = (
    ("0", "Done."),
    ("1", "It failed; the message says why and what to do."),
    ("2", "The command line makes no sense."),
    ("3", "A setting is wrong."),
    ("4", "A camera or a virtual camera cannot be used."),
)
# Words that an argument takes besides files.
WORDS: Final = {"background": ("blur", "none", "next", "previous")}
TAKES_FILES: Final = {"FILE", "INPUT", "OUTPUT", "B", "S"}
# Words that `vcam complete` knows for an argument, by the word that stands for it.
ASKED: Final = {
    "B": "backgrounds",
    "S": "cameras",
    "C": "cameras",
    "K": "sinks",
    "KEY": "keys",
    "VALUE": "values",
}
TAKES_FOLDERS: Final = {"DIR"}


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Every command: its name, its own parser, what it is for."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, command in action.choices.items():
                if name in texts:  # the others are for programs
                    yield name, command, texts[name]


def options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """A command's flags, `--help` left out."""
    return [a for a in parser._actions if a.option_strings and a.dest != "help"]


def arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """A command's arguments without a flag."""
    return [
        a
        for a in parser._actions
        if not a.option_strings and not isinstance(a, argparse._SubParsersAction)
    ]


def _value(action: argparse.Action) -> str:
    """The word that stands for what a flag takes, "" if it takes nothing."""
    if action.nargs == 0:
        return ""
    return str(action.metavar or "") or "|".join(_words(action)) or action.dest.upper()


def _words(action: argparse.Action) -> list[str]:
    """Words that an argument takes besides files."""
    return [str(word) for word in action.choices or WORDS.get(action.dest) or ()]


def man() -> str:
    """The manual page vcam(1), in roff."""
    parser = build_parser()
    lines = [
        f'.TH VCAM 1 "" "VBG Camera {__version__}" "User commands"',
        ".SH NAME",
        "vcam \\- " + _roff((parser.description or "").rstrip(".")),
        ".SH SYNOPSIS",
        ".B vcam",
        "[\\-\\-version] [\\-\\-help] COMMAND [...]",
        ".SH DESCRIPTION",
        "A background daemon reads the webcam, finds the person in every frame, puts a background "
        "of your choice behind them and shows the result as the camera “VBG Camera”.",
        ".PP",
        _roff(parser.epilog or ""),
        ".SH COMMANDS",
    ]
    for name, command, text in commands(parser):
        shown = [f"\\fB{_roff(name)}\\fR"]
        shown += [f"\\fI{_roff(_value(action))}\\fR" for action in arguments(command)]
        lines += [".TP", " ".join(shown), _roff(_sentence(text))]
        for action in options(command):
            flags = ", ".join(f"\\fB{_roff(flag)}\\fR" for flag in action.option_strings)
            value = f" \\fI{_roff(_value(action))}\\fR" if _value(action) else ""
            lines += [".RS", ".TP", flags + value, _roff(_sentence(action.help or "")), ".RE"]
    for title, rows in (("FILES", FILES), ("EXIT STATUS", EXITS)):
        lines.append(f".SH {title}")
        for term, text in rows:
            lines += [".TP", f"\\fB{_roff(term)}\\fR", _roff(text)]
    lines += [
        ".SH ENVIRONMENT",
        ".TP",
        "\\fBVCAM_SECTION_KEY\\fR",
        "Outranks the settings file: \\fBVCAM_OUTPUT_FPS=24\\fR sets fps in [output].",
        ".TP",
        "\\fBVCAM_CONFIG\\fR",
        "Another settings file.",
        ".SH EXAMPLES",
        ".TP",
        "\\fBvcam start \\-\\-background blur\\fR",
        "Start, with your room blurred.",
        ".TP",
        "\\fBvcam render holiday.mp4 \\-o out.mp4 \\-\\-background beach.jpg\\fR",
        "Replace the background of a clip.",
        ".TP",
        "\\fBvcam doctor\\fR",
        "Find out why the camera does not show up.",
    ]
    return "\n".join(lines) + "\n"


def _sentence(text: str) -> str:
    first = text.split(",")[0].split(" ")[0]
    start = text[:1].upper() if first.isalpha() else text[:1]
    return start + text[1:].rstrip(".") + "."


def _roff(text: str) -> str:
    """Text as roff takes it: no hyphen turned into a dash, no line read as a request."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{safe}" if safe.startswith((".", "'")) else safe


def bash() -> str:
    """Completion for bash."""
    parser = build_parser()
    known = list(commands(parser))
    cases = []
    for name, command, _ in known:
        flags = [flag for action in options(command) for flag in action.option_strings]
        given = arguments(command)
        cases.append(f"        {name}) flags='{' '.join([*flags, '--help'])}'")
        cases.append(f"            {_offer(given[0]) if given else ':'}")
        if len(given) > 1:
            cases.append(f"            if [[ $place -gt 1 ]]; then {_offer(given[1])}; fi")
        cases.append("            ;;")
    values: dict[str, list[str]] = {}
    for _, command, _ in known:
        for action in options(command):
            if _value(action):
                flags = values.setdefault(_offer(action), [])
                flags += [flag for flag in action.option_strings if flag not in flags]
    every = " ".join(name for name, _, _ in known)
    return "\n".join(
        [
            "# bash completion for vcam",
            "_vcam() {",
            "    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}",
            "    local command='' flags='' words='' files='' ask='' place=0 word line",
            '    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
            "        if [[ $word == -* ]]; then continue; fi",
            "        if [[ -z $command ]]; then command=$word; fi",
            "        place=$((place + 1))",
            "    done",
            "    COMPREPLY=()",
            '    case "$command" in',
            f"        '') words='{every}' flags='--help --version' ;;",
            *cases,
            "    esac",
            '    case "$before" in',
            *(
                f"        {'|'.join(names)}) flags=''; {offer} ;;"
                for offer, names in values.items()
            ),
            "    esac",
            "    if [[ $current == -* ]]; then words=$flags; files=''; ask=''; fi",
            '    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")',
            "    if [[ -n $ask ]]; then",
            "        while IFS= read -r line; do",
            '            if [[ $line == "$current"* ]]; then COMPREPLY+=("$line"); fi',
            '        done < <(vcam complete "$ask" -- "$before" 2>/dev/null)',
            "    fi",
            "    if [[ -n $files ]]; then",
            '        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen "$files" -- "$current")',
            "    fi",
            "}",
            "complete -o filenames -F _vcam vcam",
            "",
        ]
    )


def _offer(action: argparse.Action) -> str:
    """Words, kind of files and what `vcam complete` is asked for an argument, set for bash."""
    value = _value(action)
    files = "-f" if value in TAKES_FILES else "-d" if value in TAKES_FOLDERS else ""
    return f"words='{' '.join(_words(action))}' files='{files}' ask='{ASKED.get(value, '')}'"


def zsh() -> str:
    """Completion for zsh: commands and flags with what they are for."""
    parser = build_parser()
    known = list(commands(parser))
    lines = [
        "#compdef vcam",
        "_vcam_ask() {",
        "    local -a found",
        '    found=("${(@f)$(vcam complete $1 -- "${words[CURRENT-1]}" 2>/dev/null)}")',
        "    compadd -a found",
        "    if (( $# > 1 )); then $2 $3; fi",
        "}",
        "_vcam() {",
        "    local -a commands",
        "    commands=(",
    ]
    lines += [f"        {_quoted(name + ':' + text)}" for name, _, text in known]
    lines += [
        "    )",
        "    if (( CURRENT == 2 )); then",
        "        _describe command commands",
        "        _arguments '--help[show help]' '--version[show the version]'",
        "        return",
        "    fi",
        '    case "$words[2]" in',
    ]
    for name, command, _ in known:
        parts = []
        for action in options(command):
            value = _value(action)
            how = "_files -/" if value in TAKES_FOLDERS else "_files"
            how = how if value in TAKES_FILES | TAKES_FOLDERS else ""
            how = f"_vcam_ask {ASKED[value]} {how}".strip() if value in ASKED else how
            how = how or (f"({' '.join(_words(action))})" if action.choices else "")
            takes = f":{value}:{how}" if value else ""
            text = (action.help or "").replace("[", "(").replace("]", ")").replace(":", "\\:")
            parts += [_quoted(f"{flag}[{text}]{takes}") for flag in action.option_strings]
        for action in arguments(command):
            choices, value = _words(action), _value(action)
            how = f"({' '.join(choices)})" if choices else "_files"
            how = f"_vcam_ask {ASKED[value]} _files" if value in ASKED else how
            many = "*" if len(arguments(command)) == 1 else ""
            parts.append(_quoted(f"{many}:{action.dest}:{how}"))
        lines.append(f"        {name}) _arguments {' '.join(parts)} ;;")
    # Read from a folder of functions the file itself is called; sourced, it registers.
    last = 'if [[ $funcstack[1] == _vcam ]]; then _vcam "$@"; else compdef _vcam vcam; fi'
    return "\n".join([*lines, "    esac", "}", last, ""])


def fish() -> str:
    """Completion for fish."""
    lines = ["# fish completion for vcam", "complete -c vcam -n __fish_use_subcommand -f"]
    for name, command, text in commands(build_parser()):
        lines.append(f"complete -c vcam -n __fish_use_subcommand -f -a {name} -d {_quoted(text)}")
        here = f"complete -c vcam -n '__fish_seen_subcommand_from {name}'"
        for action in options(command):
            flags = " ".join(
                f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
                for flag in action.option_strings
            )
            asked = _fish_words(action)
            needs = f" -r{asked}" if _value(action) else ""
            lines.append(f"{here} {flags}{needs} -d {_quoted(action.help or '')}")
        lines += [f"{here}{words}" for a in arguments(command) if (words := _fish_words(a))]
    return "\n".join(lines) + "\n"


def _fish_words(action: argparse.Action) -> str:
    """The words of an argument as an option of fish's `complete`; "" where there are none."""
    if kind := ASKED.get(_value(action)):
        return f" -a '(vcam complete {kind} -- (commandline -opc)[-1] 2>/dev/null)'"
    return f" -a '{' '.join(_words(action))}'" if _words(action) else ""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def api() -> str:
    """`docs/api.md`."""
    offered = Api(None, None)  # type: ignore[arg-type]
    return description.markdown(offered.endpoints(local=False), offered.endpoints(local=True))


def formats() -> str:
    """`docs/formats.md`."""
    return page.page()


def credits() -> str:
    """`docs/credits.md`."""
    return shipped.page()


KINDS: Final[dict[str, Callable[[], str]]] = {
    "man": man,
    "bash": bash,
    "zsh": zsh,
    "fish": fish,
    "api": api,
    "formats": formats,
    "credits": credits,
}


def main() -> int:
    """Print what was asked for; the exit code."""
    if len(sys.argv) != 2 or sys.argv[1] not in KINDS:
        say(f"usage: python -m vcam.manual {'|'.join(KINDS)}", file=sys.stderr)
        return 2
    sys.stdout.write(KINDS[sys.argv[1]]())
    return 0


if __name__ == "__main__":
    sys.exit(main())
