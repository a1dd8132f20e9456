"""Reads pictures in a process of its own, and says what each gave and how much memory was taken.

`python -m tests.media.reader THREADS FILE...` prints a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vcam.compose import backdrops
from vcam.errors import VcamError


def read(path: str) -> str:
    started = time.monotonic()
    try:
        backdrops.open_backdrop(path, 1280, 720).close()
        said = "read"
    except VcamError as error:
        said = f"{error} {error.hint}"
    return f"{said} [{time.monotonic() - started:.1f} s]"


def main() -> None:
    threads, *files = sys.argv[1:]
    with ThreadPoolExecutor(int(threads)) as pool:
        said = list(pool.map(read, files))
    # Not `ru_maxrss`: a child counts what its parent had when it was made.
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    peak *= 1024
    names = [Path(file).name for file in files]
    print(json.dumps({"peak": peak, "said": dict(zip(names, said, strict=True))}))


if __name__ == "__main__":
    main()
