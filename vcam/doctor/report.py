"""The doctor: runs every check, prints what it found, mends what needs no root."""

from __future__ import annotations

import json as jsonlib
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

from vcam import __version__
from vcam.doctor import facts
from vcam.doctor.checks import CHECKS
from vcam.doctor.facts import Surroundings
from vcam.doctor.finding import Finding
from vcam.foreign_text import say
from vcam.words import _, told


def run_checks(seen: Surroundings | None = None) -> list[Finding]:
    """Everything wrong with this machine, the worst first; empty on a healthy one."""
    seen = facts.look() if seen is None else seen
    order = ("error", "warning", "note")
    found: list[Finding] = []
    for check in CHECKS:
        known = {finding.about for finding in found} - {""}
        found += [finding for finding in check(seen) if finding.about not in known]
    return sorted(found, key=lambda finding: order.index(finding.severity))


def run(json: bool = False, fix: bool = False) -> int:
    """Examine this machine, print what was found, mend what needs no root; the exit code."""
    found = run_checks()
    if fix:
        mended = [mend(finding) for finding in found if finding.command and not finding.needs_root]
        if any(mended):
            found = run_checks()
    if json:
        findings = [finding.told() for finding in found]
        healthy = not any(finding.severity == "error" for finding in found)
        answer = {"version": __version__, "healthy": healthy, "findings": findings}
        say(jsonlib.dumps(answer, indent=2), limit=None)
    else:
        say(report(found, fix=fix))
    return 1 if any(finding.severity == "error" for finding in found) else 0


def mend(finding: Finding) -> bool:
    """Run a finding's command and say so on stderr; whether it succeeded."""
    say(f"{told(finding.what)}\n  $ {finding.command}", file=sys.stderr)
    try:
        # No shell: a program's name may hold anything.
        command = shlex.split(finding.command)
        if command[0] == "vcam":
            beside = Path(sys.executable).with_name("vcam")
            command[0] = str(beside) if beside.exists() else "vcam"
        done = subprocess.run(command, timeout=120, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        say("  " + _("That did not work: {0}", error), file=sys.stderr)
        return False
    if done.returncode:
        say("  " + _("That did not work: exit code {0}", done.returncode), file=sys.stderr)
    return done.returncode == 0


_MARKS: Final = {"error": "✗", "warning": "!", "note": "·"}


def report(found: list[Finding], *, fix: bool = False) -> str:
    """The findings for a person."""
    if not found:
        return _("Nothing is wrong: {0} checks passed.", len(CHECKS))
    blocks = []
    for finding in found:
        lines = [f"{_MARKS[finding.severity]} {told(finding.what)}", f"  {told(finding.why)}"]
        if finding.command:
            lines.append(f"  {_('Run:')} {finding.command}")
        blocks.append("\n".join(lines))
    open_to_us = [f for f in found if f.command and not f.needs_root]
    if open_to_us and not fix:
        blocks.append(
            _("`vcam doctor --fix` runs 1 of these; what needs root is left to you.")
            if len(open_to_us) == 1
            else _(
                "`vcam doctor --fix` runs {0} of these; what needs root is left to you.",
                len(open_to_us),
            )
        )
    elif fix and any(f.needs_root for f in found):
        blocks.append(_("What is left needs root: run those commands yourself."))
    return "\n\n".join(blocks)
