"""Where this machine's power comes from."""

from __future__ import annotations

import contextlib
from pathlib import Path

SUPPLIES = Path("/sys/class/power_supply")


def on_battery(supplies: Path = SUPPLIES) -> bool:
    """True if a battery of this machine is being emptied; false where nobody can tell.

    Batteries of mice and headsets, whose scope is "Device", do not count.
    """
    for supply in sorted(supplies.glob("*")):
        kind, scope = _word(supply / "type"), _word(supply / "scope")
        if kind == "Battery" and scope != "Device" and _word(supply / "status") == "Discharging":
            return True
    return False


def _word(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="ascii", errors="replace").strip()
    return ""
