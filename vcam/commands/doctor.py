"""`vcam doctor`: what keeps the camera from showing up, printed or mended."""

from __future__ import annotations

import argparse

from vcam.doctor import report


def run(options: argparse.Namespace) -> int:
    """Examine this machine; the exit code."""
    return report.run(json=options.json, fix=options.fix)
