"""The table of programs in docs/programs.md, written by the tests that ran them.

    pytest -m slow tests/vm -k programs; pytest tests/desktop; python -m tests.programs

A test notes what it saw; this puts the newest word of each program into the table.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
NOTES: Final = ROOT / "build/programs.jsonl"
PAGE: Final = ROOT / "docs/programs.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
COMPLIANCE: Final = "v4l2-compliance"
SURVIVES: Final = "survives"
COLUMNS: Final = (
    "program",
    "version",
    "through",
    "listed",
    "right pixels",
    "rate",
    "named",
    SURVIVES,
)


def note(program: str, through: str, version: str = "", **facts: object) -> None:
    """Keep what a test saw of a program: `facts` are columns of the table."""
    NOTES.parent.mkdir(exist_ok=True)
    line = {"program": program, "through": through, "version": version or version_of(program)}
    with NOTES.open("a") as file:
        file.write(json.dumps(line | {k.replace("_", " "): v for k, v in facts.items()}) + "\n")


def note_compliance(module: str, tests: int, failed: list[str]) -> None:
    """Keep what v4l2-compliance found of a camera under a version of v4l2loopback."""
    note(COMPLIANCE, f"v4l2loopback {module}", tests=tests, failed=failed)


def version_of(program: str) -> str:
    """The version of the Debian package that a program comes from."""
    if not (found := shutil.which(program)):
        return ""
    place = Path(found).resolve()
    for path in (found, str(place)):
        owner = subprocess.run(["dpkg", "-S", path], capture_output=True, text=True, check=False)
        if owner.returncode == 0:
            package = owner.stdout.split(":")[0]
            asked = ["dpkg-query", "-W", "-f", "${source:Upstream-Version}", package]
            return subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    return ""


def table(lines: list[str]) -> str:
    """The newest note of each program and way, as Markdown; all that it survived."""
    newest: dict[tuple[str, str], dict[str, object]] = {}
    for line in map(json.loads, lines):
        if line["program"] == COMPLIANCE:
            continue
        row = newest.setdefault((line["program"], line["through"]), {})
        survived = [each[SURVIVES] for each in (row, line) if SURVIVES in each]
        row.update(line)
        if survived:
            parts = ", ".join(map(str, survived)).split(", ")
            row[SURVIVES] = ", ".join(dict.fromkeys(parts))
    return _markdown(
        COLUMNS, [[str(newest[k].get(c, "-")) for c in COLUMNS] for k in sorted(newest)]
    )


def compliance(lines: list[str]) -> str:
    """What v4l2-compliance found under each module, as Markdown."""
    told = {e["through"]: e for e in map(json.loads, lines) if e["program"] == COMPLIANCE}
    rows = [
        [module, str(told[module]["tests"]), ", ".join(told[module]["failed"]) or "none"]
        for module in sorted(told)
    ]
    return _markdown(("module", "tests", "failed, with ffmpeg writing too"), rows)


def _markdown(heads: Sequence[str], rows: list[list[str]]) -> str:
    every = [list(heads), ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in every)


def _put(page: str, begin: str, end: str, made: str) -> str:
    before, rest = page.split(begin, 1)
    return f"{before}{begin}\n{made}\n{end}{rest.split(end, 1)[1]}"


def main() -> int:
    """Write the table into its page; the exit code."""
    if not NOTES.exists():
        print(f"{NOTES} is missing: the tests write it", file=sys.stderr)
        return 1
    lines = NOTES.read_text().splitlines()
    text = _put(PAGE.read_text(), BEGIN, END, table(lines))
    PAGE.write_text(
        _put(text, "<!-- compliance -->", "<!-- end of compliance -->", compliance(lines))
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
