"""Boots a throw-away QEMU guest with real V4L2 devices and runs one command in it.

The guest sees this machine's files read-only under a layer in memory, so the same virtual
environment, ffmpeg and browser run in it; only one directory is written for real. The kernel is
Debian's, fetched with apt-get, with its `vivid` driver as the webcam; v4l2loopback is built here.

    python -m tests.vm.machine --out DIR -- 'ls -l /dev/video*'
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

NEEDED = {
    "qemu-system-x86_64": "qemu-system-x86",
    "modprobe": "kmod",
    "depmod": "kmod",
    "make": "make",
    "gcc": "gcc",
    "strip": "binutils",
    "apt-get": "apt",
    "v4l2-ctl": "v4l-utils",
    "ffmpeg": "ffmpeg",
}
BUSYBOX = Path("/bin/busybox")
BOOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console")
WEBCAM = "vivid n_devs=1 node_types=0x1 vid_cap_nr=0 no_error_inj=0"
VIRTUAL = 'v4l2loopback exclusive_caps=1 video_nr=10 "card_label=\\"VBG Camera\\""'

_9P = "trans=virtio,version=9p2000.L,msize=512000"
INIT = f"""#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /dev /low /up /new
$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev
for m in $($b cat /mods.order); do $b insmod /mods/$m || echo "insmod $m failed"; done
$b mount -t 9p -o ro,{_9P},cache=loose host /low || {{ echo "no root"; $b poweroff -f; }}
$b mount -t tmpfs -o size=80% up /up; $b mkdir /up/u /up/w
$b mount -t overlay -o lowerdir=/low,upperdir=/up/u,workdir=/up/w root /new || $b poweroff -f
for d in proc sys dev; do $b mount --move /$d /new/$d; done
$b mkdir -p /new/dev/shm /new/dev/pts /new/run /new/tmp
$b mount -t tmpfs -o mode=1777 shm /new/dev/shm
$b mount -t devpts -o mode=620,ptmxmode=666 pts /new/dev/pts
$b mount -t tmpfs run /new/run
$b mkdir -p /new/run/vm /new/lib/modules/$($b uname -r)
$b mount -t 9p -o {_9P},cache=none run /new/run/vm
exec $b switch_root /new /bin/sh /run/vm/boot.sh
"""
BOOT = f"""#!/bin/sh
. /run/vm/environment.sh
mkdir -p "$VM_OUT"
mount -t 9p -o {_9P},cache=none out "$VM_OUT"
mount --bind "$VM_MODULES" /lib/modules/$(uname -r)
busybox ifconfig lo 127.0.0.1 up
busybox hostname guest
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin; ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
. /run/vm/devices.sh >/dev/vport0p1 2>&1
cd "$VM_CWD"
setsid sh /run/vm/command.sh </dev/null >/dev/vport0p1 2>&1
echo $? > /run/vm/status
sync
busybox poweroff -f
"""


class Unbuilt(Exception):
    """The guest cannot be made on this machine; says what to install."""


@dataclass(frozen=True)
class Kernel:
    """A kernel unpacked below `root`, with headers to build against."""

    root: Path
    version: str


def missing() -> list[str]:
    """Debian packages that the guest needs and this machine lacks."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    lacking = {package for tool, package in NEEDED.items() if not shutil.which(tool, path=path)}
    if not BUSYBOX.exists():
        lacking.add("busybox-static")
    return sorted(lacking)


def cache() -> Path:
    """Where kernels and modules are kept between runs; it may be deleted at any time."""
    given = os.environ.get("VCAM_VM_CACHE")
    path = Path(given or platformdirs.user_cache_dir("vcam-vm", appauthor=False))
    path.mkdir(parents=True, exist_ok=True)
    return path


def _call(*command: str | Path, cwd: Path | None = None) -> str:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd, capture_output=True, text=True, check=False, env=os.environ | {"PATH": path},
    )  # fmt: skip
    if done.returncode:
        raise Unbuilt(f"{command[0]} failed: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def _fetch(packages: Iterable[str], into: Path) -> list[Path]:
    into.mkdir(parents=True, exist_ok=True)
    _call("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *packages, cwd=into)
    return sorted(into.glob("*.deb"))


def _package(name: str, field: str) -> str:
    told = _call("apt-cache", "show", "--no-all-versions", name)
    for line in told.splitlines():
        if line.startswith(f"{field}: "):
            return line.split(": ", 1)[1]
    raise Unbuilt(f"apt-cache knows no {field} of {name}; run apt-get update")


def kernel() -> Kernel:
    """Debian's kernel for virtual machines and servers, unpacked once."""
    image = _package("linux-image-amd64", "Depends").split()[0].rstrip(",")
    version = image.removeprefix("linux-image-")
    home = cache() / f"{image}_{_package(image, 'Version')}"
    made = Kernel(home / "root", version)
    if (home / "done").exists():
        return made
    shutil.rmtree(home, ignore_errors=True)
    series = ".".join(version.split(".")[:2])
    abi = version.rsplit("-", 1)[0]
    wanted = [image, f"linux-headers-{version}", f"linux-headers-{abi}-common"]
    for deb in _fetch([*wanted, f"linux-kbuild-{series}"], home / "debs"):
        _call("dpkg", "-x", deb, made.root)
    shutil.rmtree(home / "debs")
    headers = made.root / f"usr/src/linux-headers-{version}"
    common = made.root / f"usr/src/linux-headers-{abi}-common/Makefile"
    (headers / "Makefile").write_text(f"include {common}\n")
    for link in ("build", "source"):
        (made.root / f"lib/modules/{version}/{link}").unlink(missing_ok=True)
    (home / "done").touch()
    return made


def loopback(made: Kernel, source: Path | None = None) -> Path:
    """v4l2loopback built for this kernel: Debian's package, or the sources in `source`."""
    if source is None:
        tag = _package("v4l2loopback-dkms", "Version").replace("~", "_")
    else:
        digest = hashlib.sha256()
        for file in sorted(source.glob("*.[ch]")):
            digest.update(file.read_bytes())
        tag = f"{source.name}-{digest.hexdigest()[:8]}"
    home = made.root.parent / f"v4l2loopback-{tag}"
    if (home / "v4l2loopback.ko").exists():
        return home / "v4l2loopback.ko"
    shutil.rmtree(home, ignore_errors=True)
    if source is None:
        fetched = made.root.parent / "fetched"
        (deb,) = _fetch(["v4l2loopback-dkms"], fetched)
        _call("dpkg", "-x", deb, fetched / "x")
        shutil.copytree(next((fetched / "x/usr/src").iterdir()), home)
        shutil.rmtree(fetched)
    else:
        shutil.copytree(source, home)
    headers = made.root / f"usr/src/linux-headers-{made.version}"
    _call("make", "-C", headers, f"M={home}", "modules")
    return home / "v4l2loopback.ko"


def _archive(entries: list[tuple[str, int, bytes]]) -> bytes:
    """A newc cpio archive of (name, mode, bytes)."""
    out = bytearray()
    for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        label = name.encode() + b"\0"
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(label), 0]
        out += b"070701" + "".join(f"{field:08x}" for field in fields).encode() + label
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def image(made: Kernel, module: Path) -> tuple[Path, Path]:
    """The first file system and the tree of modules, v4l2loopback among them; built once."""
    tag = module.parent.name
    ram, modules = made.root.parent / f"{tag}.cpio", made.root.parent / f"modules-{tag}"
    key = hashlib.sha256(INIT.encode() + module.read_bytes()).hexdigest()
    tree = modules / f"lib/modules/{made.version}"
    stamp = ram.with_suffix(".key")
    if stamp.exists() and stamp.read_text() == key:
        return ram, tree
    shutil.rmtree(modules, ignore_errors=True)
    tree.parent.mkdir(parents=True)
    _call("cp", "-al", made.root / f"lib/modules/{made.version}", tree)
    (tree / "updates").mkdir()
    _call("strip", "--strip-debug", "-o", tree / "updates/v4l2loopback.ko", module)
    _call("depmod", "-b", modules, made.version)
    order: list[Path] = []
    for name in BOOT_MODULES:
        told = _call("modprobe", "-d", modules, "-S", made.version, "--show-depends", name)
        for line in told.splitlines():
            words = line.split()
            if words[0] == "insmod" and Path(words[1]) not in order:
                order.append(Path(words[1]))
    directory, file, program = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644, stat.S_IFREG | 0o755
    names = "\n".join(path.name for path in order) + "\n"
    entries = [(name, directory, b"") for name in ("bin", "mods", "dev")]
    entries.append(("bin/busybox", program, BUSYBOX.resolve().read_bytes()))
    entries.append(("init", program, INIT.encode()))
    entries += [(f"mods/{path.name}", file, path.read_bytes()) for path in order]
    entries.append(("mods.order", file, names.encode()))
    ram.write_bytes(_archive(entries))
    stamp.write_text(key)
    return ram, tree


@dataclass(frozen=True)
class Outcome:
    """What came of the command: 124 if it ran out of time, 125 if the guest died."""

    status: int
    output: str
    console: str


def run(
    command: str,
    out: Path,
    *,
    timeout: float = 600,
    devices: Iterable[str] = (WEBCAM, VIRTUAL),
    environ: dict[str, str] | None = None,
    source: Path | None = None,
    memory: int = 3072,
    echo: bool = False,
) -> Outcome:
    """Boot, load the modules in `devices`, run `command` through a shell, power off.

    `out` is the one directory that the guest writes for real; the command's output comes back.
    """
    made = kernel()
    ram, modules = image(made, loopback(made, source))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vcam-vm.") as name:
        shared = Path(name)
        given = {
            "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/run/home",
            "LANG": "C.UTF-8",
            "VM_OUT": str(out.resolve()),
            "VM_MODULES": str(modules),
            "VM_CWD": os.getcwd(),
        } | (environ or {})
        lines = [f"export {key}={shlex.quote(value)}" for key, value in given.items()]
        (shared / "environment.sh").write_text("\n".join([*lines, "mkdir -p $HOME", ""]))
        (shared / "devices.sh").write_text("".join(f"modprobe {what}\n" for what in devices))
        (shared / "command.sh").write_text(command + "\n")
        (shared / "boot.sh").write_text(BOOT)
        console = out / "console.log"
        output, ran_out = _boot(
            _qemu(made, ram, shared, out.resolve(), console, memory), timeout, echo
        )
        status = shared / "status"
        told = console.read_text(errors="replace")[-4000:] if console.exists() else ""
        if ran_out:
            return Outcome(124, output, told)
        return Outcome(int(status.read_text()) if status.exists() else 125, output, told)


def _qemu(
    made: Kernel, ram: Path, shared: Path, out: Path, console: Path, memory: int
) -> list[str]:
    # A /dev/kvm that opens may still run nothing, so the slow and certain way is the usual one.
    fast = os.environ.get("VCAM_VM_ACCEL") == "kvm"
    accel = "kvm" if fast else "tcg,thread=multi,tb-size=512"
    append = (
        "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr audit=0 "
        "tsc=reliable no_timer_check"
    )
    local = "local,security_model=none"
    return [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-machine", "q35,usb=off,vmport=off", "-accel", accel,
        "-cpu", "host" if fast else "max", "-smp", "2", "-m", str(memory),
        "-kernel", str(made.root / f"boot/vmlinuz-{made.version}"), "-initrd", str(ram),
        "-append", append,
        "-chardev", f"file,id=console,path={console}", "-serial", "chardev:console",
        "-device", "virtio-serial-pci", "-chardev", "stdio,id=command,signal=off",
        "-device", "virtserialport,chardev=command,name=command",
        "-virtfs", f"{local},path={shared},mount_tag=run,id=run",
        "-virtfs", f"{local},path={out},mount_tag=out,id=out",
        "-virtfs", f"{local},path=/,mount_tag=host,readonly=on,multidevs=remap,id=host",
        "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
    ]  # fmt: skip


def _boot(qemu: list[str], timeout: float, echo: bool) -> tuple[str, bool]:
    """Run the machine until it powers off; what its command said, and whether time ran out."""
    # Its input stays open: at its end qemu closes the line, and the guest's writes would block.
    machine = subprocess.Popen(
        qemu, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert machine.stdout is not None
    assert machine.stdin is not None
    said = bytearray()

    def listen() -> None:
        assert machine.stdout is not None
        while piece := machine.stdout.read1(65536):  # type: ignore[attr-defined]
            said.extend(piece)
            if echo:
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    ran_out = False
    try:
        machine.wait(timeout)
    except subprocess.TimeoutExpired:
        ran_out = True
    finally:
        if machine.poll() is None:
            machine.kill()
            machine.wait()
        listener.join(5)
        machine.stdin.close()
        machine.stdout.close()
    return said.decode(errors="replace"), ran_out


def main() -> int:
    """Boot, run the words after `--` as one shell command, return its status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "vcam-vm-out")
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--loopback", type=Path, help="directory with v4l2loopback's sources")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    words = asked.command[1:] if asked.command[:1] == ["--"] else asked.command
    command = words[0] if len(words) == 1 else shlex.join(words)
    outcome = run(command, asked.out, timeout=asked.timeout, source=asked.loopback, echo=True)
    if outcome.status >= 124:
        print(outcome.console, file=sys.stderr)
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
