"""A machine of any distribution, whose package managers and kernel are small shell scripts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
KERNEL = {
    "debian": "6.1.0-35-amd64",
    "ubuntu": "6.8.0-60-generic",
    "fedora": "6.14.9-300.fc42.x86_64",
    "arch": "6.15.1-zen1-1-zen",
    "opensuse": "6.15.0-1-default",
}
RELEASE = {
    "debian": "ID=debian\nVERSION_ID=12\n",
    "ubuntu": 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n',
    "fedora": "ID=fedora\nVERSION_ID=42\n",
    "arch": "ID=arch\n",
    "opensuse": 'ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n',
}

# What every stub does first: write down how it was called.
NOTE = '#!/bin/bash\necho "$(basename "$0")${*:+ $*}" >> "$CALLS"\n'
# Package managers keep their packages in a file, one a line.
ADD = 'for p in "$@"; do [[ $p == -* ]] || echo "$p" >> "$PACKAGES"; done\n'
DROP = 'for p in "$@"; do sed -i "/^$p$/d" "$PACKAGES"; done\n'
QUERY = 'grep -qxF -- "${@: -1}" "$PACKAGES"'
STUBS = {
    "uname": 'echo "$KERNEL"',
    # What is installed brings a library along; NEEDED is what would have to go with it.
    "apt-get": NOTE
    + f"""case $1 in
        install) shift; {ADD} echo libbrought >> "$PACKAGES" ;;
        purge) shift; {DROP} ;;
        --simulate) shift 2; for p in "$@" $NEEDED; do echo "Purg $p [1]"; done ;;
    esac""",
    "apt-mark": "echo libbrought; echo libolder",
    "apt-cache": "exit 0",
    "dpkg-query": "if [[ ${@: -1} == *Package* ]]; then sed 's/^/ii  /' \"$PACKAGES\"; exit; fi\n"
    + f"{QUERY} && echo -n installed",
    "dnf": NOTE + f"case $1 in install) shift; {ADD};; remove) shift; {DROP};; esac",
    "rpm": f'[[ $1 == -E ]] && {{ echo 42; exit; }}; {QUERY} || [[ "$HAVE" == *"${{@: -1}}"* ]]',
    "akmods": NOTE,
    "pacman": NOTE + f"case $1 in -Q) {QUERY};; -S) shift; {ADD};; -Rns) shift; {DROP};; esac",
    "zypper": NOTE + f"case $2 in install) shift 2; {ADD};; remove) shift 2; {DROP};; esac",
    "modprobe": NOTE
    + 'if [[ $REFUSES ]]; then echo "modprobe: ERROR: $REFUSES" >&2; exit 1; fi\n'
    + 'mkdir -p "$VCAM_ROOT/sys/module/v4l2loopback" "$VCAM_ROOT/sys/class/video4linux/video10"\n'
    + 'echo "VBG Camera" > "$VCAM_ROOT/sys/class/video4linux/video10/name"',
    "v4l2loopback-ctl": NOTE
    + 'node=$VCAM_ROOT/sys/class/video4linux/$(basename "${@: -1}"); mkdir -p "$node"\n'
    + 'echo "$3" > "$node/name"',
    "systemctl": NOTE + "[[ $2 == is-active && $ACTIVE ]] || [[ $2 != is-* ]]",
    "getent": "exit 1",
    "udevadm": "exit 0",
}
# A Python that makes an environment at once: its pip leaves a `vcam`, its manual one line.
PYTHON = """#!/bin/bash
case "$1 $2" in
    "-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
    "-m pip") [[ $REFUSES_PIP ]] && exit 1
        printf '#!/bin/sh\\necho vcam 0.1.0\\n' > "$(dirname "$0")/vcam"
        chmod +x "$(dirname "$0")/vcam" ;;
    "-m vcam.manual") echo "manual for $3" ;;
esac
"""


class Machine:
    """A root directory, a home and a path of stubs; `install` runs the script there."""

    def __init__(self, folder: Path, distribution: str) -> None:
        self.root, self.home = folder / "root", folder / "home"
        self._calls, self._packages = folder / "calls", folder / "packages"
        stubs = folder / "bin"
        for path in (self.root / "etc/modprobe.d", self.home, stubs):
            path.mkdir(parents=True)
        for path in (self._calls, self._packages):
            path.touch()
        (self.root / "etc/os-release").write_text(RELEASE[distribution])
        texts = {
            name: text if text.startswith("#!") else f"#!/bin/bash\n{text}"
            for name, text in STUBS.items()
        }
        texts |= {f"python3{minor}": PYTHON for minor in ("", ".10", ".11", ".12", ".13")}
        for name, text in texts.items():
            (stubs / name).write_text(f"{text}\n")
            (stubs / name).chmod(0o755)
        self.environ = {
            "PATH": f"{stubs}:/usr/bin:/bin",
            "HOME": str(self.home),
            "VCAM_ROOT": str(self.root),
            "KERNEL": KERNEL[distribution],
            "CALLS": str(self._calls),
            "PACKAGES": str(self._packages),
            "REFUSES": "",
            "REFUSES_PIP": "",
            "HAVE": "",
            "ACTIVE": "",
            "NEEDED": "",
        }

    def install(self, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(REPOSITORY / "install/linux.sh"), "--yes", *options],
            env=self.environ | environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self, *but: str) -> list[str]:
        """What was called since the last look, without the programs named."""
        lines = self._calls.read_text().splitlines()
        self._calls.write_text("")
        return [line for line in lines if line.split()[0] not in but]

    def packages(self) -> set[str]:
        return set(self._packages.read_text().split())

    def text(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text()

    def tree(self) -> dict[str, tuple[float, str]]:
        """Every file and folder outside /sys, with its time and content."""
        found: dict[str, tuple[float, str]] = {}
        for top in (self.root, self.home):
            for folder, folders, files in os.walk(top):
                if folder == str(self.root):
                    folders[:] = [name for name in folders if name != "sys"]
                found[folder] = (0.0, "")
                for name in files:
                    path = Path(folder, name)
                    text = path.read_text(errors="replace") if path.is_file() else ""
                    found[str(path)] = (path.lstat().st_mtime_ns, text)
        return found

    def has_loopback(self, number: int, label: str) -> None:
        """Another program's device, there before us."""
        node = self.root / f"sys/class/video4linux/video{number}"
        node.mkdir(parents=True)
        (node / "name").write_text(f"{label}\n")
        (self.root / "sys/module/v4l2loopback").mkdir(parents=True, exist_ok=True)


@pytest.fixture
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    if sys.platform != "linux":
        pytest.skip("install/linux.sh is for Linux")
    return Machine(tmp_path, getattr(request, "param", "debian"))
