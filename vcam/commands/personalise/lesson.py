"""Learning for `vcam personalise`: `train` in a process of its own, followed and ended."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vcam.errors import ModelError
from vcam.foreign_text import say
from vcam.words import _

if TYPE_CHECKING:
    from vcam.files.takes import Take
    from vcam.system.interrupt import Interrupt

SECONDS: Final = 420.0  # of learning; labels, export and judgement are done within ten minutes
ASSETS: Final = Path(__file__).resolve().parents[2] / "assets"


def taught(take: Take, interrupt: Interrupt, *, seconds: float = SECONDS) -> dict[str, Any]:
    """Have `train` learn from a take and judge the result; return its verdict.

    Raises:
        ModelError: nothing could be learnt.
        Stopped: a signal came.
    """
    nice = ["nice", "-n", "5"] if shutil.which("nice") else []  # a call may go on meanwhile
    command = [
        *nice, sys.executable, "-m", "train", "personal", str(take.pictures),
        "-o", str(take.work), "--rooms", str(ASSETS / "backgrounds"),
        "--portrait", str(ASSETS / "portrait.jpg"), "--seconds", f"{seconds:g}",
    ]  # fmt: skip
    take.work.mkdir(mode=0o700)
    with (
        take.log.open("wb") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # closed when this process ends: so does that one
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "TMPDIR": str(take.work)},
            start_new_session=True,
        ) as process,
    ):
        try:
            verdict = _followed(process, interrupt)
        finally:
            _end(process)
    if verdict is None:
        lines = take.log.read_text(errors="replace").strip().splitlines()
        why = next((line for line in reversed(lines) if line.startswith("train: ")), "")
        raise ModelError(
            f"nothing was learnt: {why.removeprefix('train: ') or (lines or ['?'])[-1]}",
            hint="Try again in better light, with nobody else in the picture.",
        )
    return verdict


def _followed(process: subprocess.Popen[str], interrupt: Interrupt) -> dict[str, Any] | None:
    """Show how far it is until it ends; None where it failed."""
    assert process.stdout is not None
    lines: queue.Queue[str] = queue.Queue()

    def read(stream: Any = process.stdout) -> None:
        for line in stream:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, name="progress", daemon=True).start()
    verdict, shown = None, ""
    while True:
        interrupt.check("learning")
        try:
            line = lines.get(timeout=0.2)
        except queue.Empty:
            continue
        if not line:
            return verdict if process.wait() == 0 else None
        told = json.loads(line) if line.startswith("{") else {}
        verdict = told.get("verdict", verdict)
        if "step" in told and (text := _progress(*told["step"])) != shown:
            shown = text
            say(text)


def _progress(what: str, done: int, total: int) -> str:
    names = {
        "label": _("Finding you in the pictures"),
        "learn": _("Learning"),
        "export": _("Writing the network"),
        "judge": _("Comparing it on seconds that it has not seen"),
    }
    tenth = 10 * done // max(total, 1) * 10
    return f"{names[what]}: {tenth} %" if what != "export" else f"{names[what]} …"


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and all that it started, at once: nothing of its is to be kept."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
    process.wait()
