"""A clean Debian 12 in a folder, entered with chroot: its own apt, Python, kernel modules and home.

Two small programs stand in for what a chroot cannot have: `uname` names the kernel that the folder
has modules for, and `modprobe` looks the module up for that kernel and shows its device in /sys.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.vm import machine

from .conftest import REPOSITORY

MIRROR = os.environ.get("VCAM_DEBIAN_MIRROR", "http://deb.debian.org")
SOURCES = f"""\
deb {MIRROR}/debian bookworm main
deb {MIRROR}/debian bookworm-updates main
deb {MIRROR}/debian-security bookworm-security main
"""
# What a fresh machine has, and nothing else of Python's.
PACKAGES = "python3,python3-venv,make,kmod,ca-certificates"
STAND_INS = {
    "uname": '[[ $* == -r ]] && exec echo "{kernel}"; exec /bin/uname "$@"',
    "modprobe": "/sbin/modprobe --dry-run --set-version {kernel} v4l2loopback || exit\n"
    "mkdir -p /sys/class/video4linux/video10 /sys/module/v4l2loopback\n"
    'echo "VBG Camera" > /sys/class/video4linux/video10/name',
}
# What the package manager keeps by design: caches, logs, and the key dkms signs modules with, which
# the firmware may know by now. And what is not on the disk.
VOLATILE = (
    *("./dev", "./proc", "./sys", "./run", "./tmp", "./wheels", "./repository"),
    *("./var/cache", "./var/log", "./var/lib/apt", "./var/lib/dpkg", "./etc/ld.so.cache"),
    "./var/lib/dkms",
)


def missing() -> str | None:
    """Why this machine cannot make one."""
    if sys.platform != "linux" or os.geteuid():
        return "a chroot needs root on Linux"
    if not shutil.which("debootstrap"):
        return "apt-get install debootstrap"
    return None


def wheels(folder: Path, *more: str) -> Path:
    """The product's wheel and everything it needs, as pip fetches them, and `more` packages."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run([*pip, str(REPOSITORY), *more], check=True)
    return folder


class Debian:
    """A fresh copy of the clean system below `root`; with `kernel`, its modules are there."""

    def __init__(self, root: Path, kernel: machine.Kernel | None = None) -> None:
        self.root = root
        self.before: tuple[set[str], set[str]] = (set(), set())  # files, packages
        subprocess.run(["cp", "-a", str(self._clean()), str(root)], check=True)
        # A Debian without sudo has a root that can log in.
        self.run("echo root:camera | chpasswd")
        if kernel:
            self._take(kernel)

    def _take(self, kernel: machine.Kernel) -> None:
        root = self.root
        self.kernel = kernel
        modules = f"lib/modules/{kernel.version}"
        (root / "lib/modules").mkdir()
        shutil.copytree(kernel.root / modules, root / modules, symlinks=True)
        for name, text in STAND_INS.items():
            path = root / "usr/local/sbin" / name
            path.write_text(f"#!/bin/bash\n{text.format(kernel=kernel.version)}\n")
            path.chmod(0o755)
        # As packages do that bring kernel modules, so that its files are not counted as ours.
        self.run(f"/sbin/depmod {kernel.version}")

    def _clean(self) -> Path:
        """The system that all are copies of; made once, while others wait."""
        import fcntl  # not on Windows

        home = machine.cache() / "bookworm"
        with (machine.cache() / "bookworm.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (home / "done").exists():
                shutil.rmtree(home, ignore_errors=True)
                home.mkdir()
                self._bootstrap(home / "root")
                (home / "done").touch()
        return home / "root"

    def _bootstrap(self, root: Path) -> None:
        # What it mounts goes with it, however it ends.
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm"]
        subprocess.run(
            [*apart, *command, str(root), f"{MIRROR}/debian"], stdout=subprocess.DEVNULL, check=True
        )
        (root / "etc/apt/sources.list").write_text(SOURCES)
        self.root, ours = root, self.root
        # Now, so that no package counts as changed that only got its updates.
        self.run("apt-get update -qq && apt-get upgrade -y -qq && apt-get clean")
        self.root = ours

    def run(
        self, command: str, *, wheels: Path | None = None, network: bool = True, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command inside; the repository is at /repository, read-only."""
        inside = shlex.quote(str(self.root))
        binds = f"mount -o bind,ro {shlex.quote(str(REPOSITORY))} {inside}/repository\n"
        if wheels:
            binds += f"mount -o bind,ro {shlex.quote(str(wheels))} {inside}/wheels\n"
        for name in ("repository", "wheels"):
            (self.root / name).mkdir(exist_ok=True)
        for name in ("etc/resolv.conf", "etc/hosts"):
            shutil.copyfile(f"/{name}", self.root / name)
        environ = {
            "HOME": "/root",
            "PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": "/wheels",
            "PIP_ROOT_USER_ACTION": "ignore",
        }
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-ec"]
        if not network:
            words.insert(1, "--net")
        script = f'{binds}mount -t proc proc {inside}/proc\nexec chroot {inside} bash -c "$0"'
        # The shell stays, as process 1, to take leave of orphans.
        done = subprocess.run(
            [*words, script, f"{command}\nexit $?"],
            env=environ, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == 0 or not check, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def files(self) -> set[str]:
        """Every file and folder but the package manager's own books, with its size."""
        prune = " -o ".join(f"-path {path}" for path in VOLATILE)
        find = rf"find . \( {prune} \) -prune -o -type d -print -o -printf '%p %s %l\n'"
        told = subprocess.run(
            ["bash", "-c", find],
            cwd=self.root, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return set(told.stdout.splitlines())

    def packages(self) -> set[str]:
        """Packages that are installed."""
        told = self.run("dpkg-query -W -f '${Package} ${db:Status-Status}\\n'").stdout
        return {line for line in told.splitlines() if line.endswith(" installed")}
