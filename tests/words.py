"""Catalogues: every text that a user sees, found in the code, and the .po files kept to it.

`python -m tests.words` writes new texts into the catalogues, untranslated, and takes unused ones
out. Found are: what `_`, `mark` and the page's `_` are given, texts of `page/index.html`, sentences
of errors and of findings with a gap for each value, words of the card, names of settings and of
drawn backgrounds, and argparse's own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from vcam import words
from vcam.compose import shipped
from vcam.compose.drawn import SCENES
from vcam.settings.config import Config
from vcam.words import markup, po

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "vcam" / "control" / "page"
GAP = re.compile(r"\{\d+[^}]*\}|%\(\w+\)[rs]|%[rs]")
RAISED = re.compile(r"(?!Type|Runtime|Assertion)\w*(Error|Ended|Stopped)")
REASONS = {"Fault", "Verdict", "distrust", "doubt", "forget"}  # a few words on the card
OURS = ("message", "hint", "card", "what", "why")
# Files whose sentences are for developers or for a log, or name the insides of a damaged file.
LEFT_OUT = (
    "segmentation/engines/",
    "segmentation/store.py",
    "vcam/commands/bench",
    "vcam/compose/compositor.py",
    "vcam/control/guards.py",
    "vcam/control/note.py",
    "vcam/control/peers.py",
    "vcam/files/encode.py",
    "vcam/files/whole.py",
    "vcam/frame.py",
    "vcam/gpu/",
    "vcam/keeper/pictures.py",
    "vcam/keeper/process.py",
    "vcam/media/heif.py",
)
ARGPARSE = (
    "usage: ",
    "options",
    "positional arguments",
    "show this help message and exit",
    "show program's version number and exit",
    "the following arguments are required: %s",
    "unrecognized arguments: %s",
    "invalid %(type)s value: %(value)r",
    "argument %(argument_name)s: %(message)s",
    "expected one argument",
    "%(prog)s: error: %(message)s\n",
)
_JS = re.compile(r'\b_\("((?:[^"\\]|\\.)*)"')


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Modules whose texts reach a user, by path."""
    for package in ("vcam", "segmentation"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(LEFT_OUT):
                yield name, ast.parse(path.read_text(encoding="utf-8"))


def used() -> dict[str, str]:
    """Every text, and where it was found first."""
    found: dict[str, str] = {}
    for text in ARGPARSE:
        found.setdefault(text, "argparse")
    for text in markup.texts((PAGE / "index.html").read_text(encoding="utf-8")):
        found.setdefault(text, "index.html")
    for path in sorted(PAGE.glob("*.js")):
        for text in _JS.findall(path.read_text(encoding="utf-8")):
            found.setdefault(text.replace('\\"', '"'), path.name)
    for name in (*SCENES, *shipped.known()):
        found.setdefault(name.capitalize(), "backgrounds")
    for section, field in Config.model_fields.items():
        for key in field.annotation.model_fields:
            found.setdefault(key.replace("_", " ").capitalize(), f"[{section}]")
    for path_name, module in sources():
        for text in _of_module(path_name, module):
            found.setdefault(text, path_name)
    return found


def _of_module(path: str, module: ast.Module) -> Iterator[str]:
    """The texts of one module, as they stand in it."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            yield from _of_call(path, node)
        if path == "vcam/guard.py" and isinstance(node, ast.Return) and node.value is not None:
            yield from (text for text in _texts(node.value) if " " in text)


def _of_call(path: str, call: ast.Call) -> Iterator[str]:
    function = call.func
    name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    if name in ("_", "mark"):
        yield from _texts(call.args[0])
    elif name == "ValueError" and not path.startswith("vcam/settings/"):
        return  # a fault of ours
    elif RAISED.fullmatch(name) or name in ("Finding", "refusal") or name in REASONS:
        args = call.args[1:3] if name == "Finding" else call.args
        values = [*args, *(each.value for each in call.keywords if each.arg in OURS)]
        for value in values:
            for text in _texts(value):
                for line in text.split("\n"):
                    said = sum(map(str.isalpha, GAP.sub("", line))) > 3
                    if said and (" " in line.strip() or name in REASONS):
                        yield line


def _texts(node: ast.expr) -> Iterator[str]:
    """The texts an expression can be, with a gap for each value in them."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        gaps, made = 0, ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                made += str(part.value)
            else:
                made, gaps = f"{made}{{{gaps}}}", gaps + 1
        yield made
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _texts(value)


def write(language: str) -> None:
    """Bring one catalogue up to date."""
    path = words.FOLDER / f"{language}.po"
    known = po.read(path) if path.exists() else {}
    lines = [
        'msgid ""',
        'msgstr ""',
        f'"Language: {language}\\n"',
        '"Content-Type: text/plain; charset=UTF-8\\n"',
        '"Content-Transfer-Encoding: 8bit\\n"',
    ]
    by_place = sorted(used().items(), key=lambda one: one[1])
    for text, place in by_place:
        lines += ["", f"#: {place}", f"msgid {po.quoted(text)}"]
        lines.append(f"msgstr {po.quoted(known.get(text, ''))}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for each in words.LANGUAGES[1:]:
        write(each)
