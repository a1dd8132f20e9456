"""A second user of the machine, a real one: what is run here has another uid and no rights."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

UID = 65534
BECOME = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs"]
needs_root = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0 or shutil.which("setpriv") is None,
    reason="only root can become another user, with setpriv of util-linux",
)


@functools.cache
def python() -> str:
    """An interpreter that the second user may run."""
    for one in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        tried = subprocess.run([*BECOME, one, "-I", "-c", ""], capture_output=True, check=False)
        if tried.returncode == 0:
            return one
    pytest.skip("no python3 that other users may run: apt-get install python3")


def command(code: str, *words: object) -> list[str]:
    """The command that runs `code` as the second user, with its words in `sys.argv`."""
    return [*BECOME, python(), "-I", "-c", code, *map(str, words)]


def says(code: str, *words: object, **more: Any) -> str:
    """What `code` prints when the second user runs it."""
    done = subprocess.run(
        command(code, *words), capture_output=True, text=True, timeout=60, check=False, **more
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Sends one request to a port of this machine and prints the first line of the answer.
ASK = """
import socket, sys
port, method, path, *headers = sys.argv[1:]
link = socket.create_connection(("127.0.0.1", int(port)), timeout=10)
head = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Length: 0", *headers]
try:
    link.sendall("\\r\\n".join([*head, "", ""]).encode())
    answer = link.recv(65536)
except (BrokenPipeError, ConnectionResetError):
    answer = b""
print(answer.decode(errors="replace").split("\\r\\n")[0] or "cut")
"""

# Prints the arguments of every process, as /proc shows them to everybody.
ARGUMENTS = """
import glob
for path in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        print(open(path, "rb").read().replace(b"\\0", b" ").decode(errors="replace"))
    except OSError:
        pass
"""

# Prints how it went to read a file.
READ = """
import sys
try:
    print(open(sys.argv[1]).read())
except OSError as error:
    print(type(error).__name__)
"""

# Opens many connections that say nothing and prints how many it got; when its input ends, it prints
# how many of them are still open.
SILENT = """
import os, socket, sys, time
address, count = sys.argv[1], int(sys.argv[2])
if os.getuid() == 0:
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
links = []
for _ in range(count):
    unix = address.startswith("/")
    link = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    link.settimeout(20)
    try:
        link.connect(address if unix else ("127.0.0.1", int(address)))
    except OSError:
        link.close()
        continue
    links.append(link)
print(len(links), flush=True)
sys.stdin.read()
left = 0
for link in links:
    link.setblocking(False)
    try:
        while link.recv(4096):
            pass
    except BlockingIOError:
        left += 1
    except OSError:
        pass
print(left)
"""
