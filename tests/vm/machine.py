"""Boots a throw-away QEMU guest with real V4L2 devices and runs one command in it.

The guest sees this machine's files read-only under a layer in memory, so the same virtual
environment, ffmpeg and browser run in it; only one directory is written for real. The kernel is
Debian's, fetched with apt-get, with its `vivid` driver as the webcam; v4l2loopback is built here.

    python -m tests.vm.machine --out DIR -- 'ls -l /dev/video*'

VCAM_VM_ACCEL=tcg or kvm says how the guest's processor is made, where that is not to be found out.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
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
SYSTEMD = Path("/lib/systemd/systemd")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
BOOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console")
WEBCAM = "vivid n_devs=1 node_types=0x1 vid_cap_nr=0 no_error_inj=0"
DEBIANS = "0.12.7"  # v4l2loopback of bookworm
# Its other versions in Debian, and the suite that each comes from.
VERSIONS = {"0.13.2": "bookworm-backports", "0.15.0": "trixie"}
# Code with wide vectors is translated wrongly now and then, after hours of boots.
EMULATED = "max,avx=off,avx2=off,fma=off,f16c=off"
GREETING_WITHIN = 60.0  # seconds; a guest under KVM is up in three, or never
# Ours, and one of another program's.
LOOPBACKS = {
    "devices": "2",
    "exclusive_caps": "1,1",
    "video_nr": "10,11",
    "card_label": '"VBG Camera,Clock"',
}
VIRTUAL = "v4l2loopback " + " ".join(f"'{key}={value}'" for key, value in LOOPBACKS.items())

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
echo "$(uname -r) is up" >/dev/vport0p1
. /run/vm/devices.sh >/dev/vport0p1 2>&1
cd "$VM_CWD"
setsid sh /run/vm/command.sh </dev/null >/dev/vport0p1 2>&1
echo $? > /run/vm/status
sync
busybox poweroff -f
"""


class Unbuilt(Exception):
    """The guest cannot be made on this machine; says why."""


class Unfetched(Unbuilt):
    """A package cannot be had from here: no network, or not Debian."""


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


def _fetch(packages: Iterable[str], into: Path, *options: str) -> list[Path]:
    into.mkdir(parents=True, exist_ok=True)
    apt = ("apt-get", "-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3", *options)
    try:
        _call(*apt, "download", *packages, cwd=into)
    except Unbuilt as error:
        raise Unfetched(str(error)) from error
    return sorted(into.glob("*.deb"))


def _suite(name: str) -> tuple[str, ...]:
    """Options that make apt-get look at another suite of the mirror this machine uses."""
    asked = "$(ORIGIN) $(COMPONENT) $(RELEASE) $(REPO_URI)"
    told = _call("apt-get", "indextargets", "--format", asked, "Created-By: Packages")
    lines = [line.split() for line in told.splitlines()]
    mirrors = [
        words[3] for words in lines if words[:2] == ["Debian", "main"] and "-" not in words[2]
    ]
    if not mirrors:
        raise Unfetched("this machine has no mirror of Debian in its apt sources")
    home = cache() / f"apt-{name}"
    for folder in ("lists/partial", "archives/partial"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirrors[0]} {name} main\n")
    given = {
        "Dir::Etc::sourcelist": home / "sources.list", "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": home / "lists", "Dir::Cache": home,
        "Acquire::Languages": "none", "APT::Sandbox::User": "root", "Acquire::Retries": "3",
    }  # fmt: skip
    options = tuple(part for key, value in given.items() for part in ("-o", f"{key}={value}"))
    try:
        _call("apt-get", "-q", *options, "--error-on=any", "update")
    except Unbuilt as error:
        raise Unfetched(str(error)) from error
    return options


def _package(name: str, field: str) -> str:
    try:
        told = _call("apt-cache", "show", "--no-all-versions", name)
    except Unbuilt as error:
        raise Unfetched(str(error)) from error
    for line in told.splitlines():
        if line.startswith(f"{field}: "):
            return line.split(": ", 1)[1]
    raise Unfetched(f"apt-cache knows no {field} of {name}; run apt-get update")


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


def loopback(made: Kernel, source: Path | None = None, version: str = "") -> Path:
    """v4l2loopback built for this kernel.

    It is Debian's package for this machine, one of `VERSIONS`, or the sources in `source`.
    """
    if source is not None:
        digest = hashlib.sha256()
        for file in sorted(source.glob("*.[ch]")):
            digest.update(file.read_bytes())
        tag = f"{source.name}-{digest.hexdigest()[:8]}"
    else:
        tag = version or _package("v4l2loopback-dkms", "Version").replace("~", "_")
    home = made.root.parent / f"v4l2loopback-{tag}"
    built = home / "v4l2loopback.ko"
    if built.exists():
        return built
    shutil.rmtree(home, ignore_errors=True)
    if source is not None:
        shutil.copytree(source, home)
    else:
        fetched = made.root.parent / "fetched"
        shutil.rmtree(fetched, ignore_errors=True)
        options = _suite(VERSIONS[version]) if version else ()
        (deb,) = _fetch(["v4l2loopback-dkms"], fetched, *options)
        _call("dpkg", "-x", deb, fetched / "x")
        shutil.copytree(next((fetched / "x/usr/src").iterdir()), home)
        shutil.rmtree(fetched)
    if version and _version_of(home) != version:
        shutil.rmtree(home)
        raise Unfetched(f"{VERSIONS[version]} has another v4l2loopback than {version}")
    headers = made.root / f"usr/src/linux-headers-{made.version}"
    _call("make", "-C", headers, f"M={home}", "modules")
    return built


def _version_of(sources: Path) -> str:
    """As DKMS's configuration names it."""
    found = re.search(r'PACKAGE_VERSION="?([\w.]+)', (sources / "dkms.conf").read_text())
    return found[1] if found else ""


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
    version: str = "",
    memory: int = 3072,
    echo: bool = False,
) -> Outcome:
    """Boot, load the modules in `devices`, run `command` through a shell, power off.

    `out` is the one directory that the guest writes for real; the command's output comes back.
    """
    made = kernel()
    ram, modules = image(made, loopback(made, source, version))
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
        for fast in _accelerations():
            qemu = _qemu(made, ram, shared, out.resolve(), console, memory, fast=fast)
            output, ran_out = _boot(qemu, timeout, echo, GREETING_WITHIN if fast else timeout)
            if output:
                break
        status = shared / "status"
        told = console.read_text(errors="replace")[-4000:] if console.exists() else ""
        if ran_out:
            return Outcome(124, output, told)
        return Outcome(int(status.read_text()) if status.exists() else 125, output, told)


def _accelerations() -> list[bool]:
    """Whether to use KVM, each way to try in turn: one that opens may still run nothing.

    Where the processor itself is made by software, as inside some virtual machines, /dev/kvm
    answers every question and a kernel never gets to its first line.
    """
    if given := os.environ.get("VCAM_VM_ACCEL"):
        return [given == "kvm"]
    with contextlib.suppress(OSError):
        real = re.search(r"^flags\s*:.*\b(vmx|svm)\b", Path("/proc/cpuinfo").read_text(), re.M)
        if real and os.access("/dev/kvm", os.R_OK | os.W_OK):
            return [True, False]
    return [False]


def _qemu(
    made: Kernel, ram: Path, shared: Path, out: Path, console: Path, memory: int, *, fast: bool
) -> list[str]:
    # Two emulated processors wait for each other: on a busy core all is nine times slower.
    accel = "kvm" if fast else "tcg,thread=single,tb-size=512"
    append = (
        "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr audit=0 "
        "tsc=reliable no_timer_check"
    )
    local = "local,security_model=none"
    return [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-machine", "q35,usb=off,vmport=off", "-accel", accel,
        "-cpu", "host" if fast else EMULATED, "-smp", "2" if fast else "1", "-m", str(memory),
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


def _boot(qemu: list[str], timeout: float, echo: bool, greeting: float) -> tuple[str, bool]:
    """Run the machine until it powers off; what its command said, and whether time ran out.

    One that has said nothing within `greeting` seconds is not waited for any longer.
    """
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
    until = time.monotonic() + timeout
    try:
        try:
            machine.wait(min(greeting, timeout))
        except subprocess.TimeoutExpired:
            if not said:
                raise
            machine.wait(max(0.0, until - time.monotonic()))
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
    parser.add_argument("--version", default="", choices=VERSIONS, help="of v4l2loopback")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    words = asked.command[1:] if asked.command[:1] == ["--"] else asked.command
    command = words[0] if len(words) == 1 else shlex.join(words)
    outcome = run(
        command, asked.out, timeout=asked.timeout, source=asked.loopback, version=asked.version,
        echo=True,
    )  # fmt: skip
    if outcome.status >= 124:
        print(outcome.console, file=sys.stderr)
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
