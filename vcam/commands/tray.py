"""`vcam tray`: the tray icon, until it is quit."""

from __future__ import annotations

import argparse

from vcam.tray import app


def run(options: argparse.Namespace) -> int:
    """Show the icon; the exit code."""
    return app.run()
