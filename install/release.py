"""Makes a release: builds wheel, source archive and Debian package, checks them, tags the commit.

python install/release.py 0.2.0              all of it; what it made lies in dist/
python install/release.py 0.2.0 --rehearse   the same, and leaves the repository as it is
python install/release.py --check FOLDER     looks once more at what lies in a folder

It works in a copy of the last commit. The tag, and the commit that it names, come last.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("hatchling>=1.26", "cyclonedx-bom>=7")
NUMBER = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")
WEIGHTS_MB = 40.0
# What nobody may find in an archive that others get.
STRANGE = re.compile(
    r"(^|/)(\.venv|\.git|\.ci|__pycache__|runs|shared|\.env|id_[a-z0-9]+|.*\.(pem|key|pyc|pt))(/|$)"
)
NEEDED = (
    "vcam/config.toml",
    "vcam/control/page/index.html",
    "vcam/assets/portrait.jpg",
    "vcam/assets/backgrounds/pictures.json",
    "vcam/assets/backgrounds/living.jpg",
    "vcam/install/linux.sh",
    "segmentation/weights/bisenet-small-int8.xml",
    "segmentation/weights/bisenet-small-int8.bin",
    "segmentation/ahead/card.json",
    "segmentation/ahead/x86-64-v3.so",
)
SCREENSHOTS = (
    ("page-light.png", "The settings page with its live preview", ' type="default"'),
    ("tray-menu.png", "The tray icon's menu with its backgrounds", ""),
)
IN_DEB = (
    "./usr/bin/vcam",
    "./usr/lib/systemd/user/vcam.service",
    "./usr/share/applications/vbg-camera.desktop",
    "./usr/share/metainfo/io.vbg_camera.VBGCamera.metainfo.xml",
    "./usr/share/man/man1/vcam.1.gz",
    "./usr/share/doc/vbg-camera/copyright",
)


class Refused(Exception):
    """The release cannot be made; the reason, and where there is one the next command."""


def run(*words: object, cwd: Path | None = None, **environ: str) -> str:
    """A program's output.

    Raises:
        Refused: it failed.
    """
    command = [str(word) for word in words]
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        told = (done.stderr or done.stdout).strip()[-2000:]
        raise Refused(f"{' '.join(command[:6])} failed:\n{told}")
    return done.stdout


def ready(version: str, root: Path) -> None:
    """Refuse a version that is none or not new, and a repository that is not ready for it."""
    if not NUMBER.fullmatch(version):
        raise Refused(f"{version!r} is no version: expected three numbers, as in 0.2.0")
    if changed := run("git", "status", "--porcelain", cwd=root):
        raise Refused(f"there are changes without a commit:\n{changed}Run: git commit or git stash")
    if f"v{version}" in run("git", "tag", cwd=root).split():
        raise Refused(f"the tag v{version} is there already")
    if not unreleased((root / "CHANGELOG.md").read_text()):
        raise Refused("CHANGELOG.md tells nothing under [Unreleased]")


def unreleased(changelog: str) -> str:
    """Changes that no release has yet."""
    found = re.search(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", changelog, re.M | re.S)
    return found[1].strip() if found else ""


def number(root: Path, version: str, day: str, site: str = "") -> None:
    """Write the version where it stands: package, changelog, recipes, software centre's file.

    The last has its pictures where `site` says they are published: it may name no others.
    """
    _replace(root / "vcam/__init__.py", r'__version__ = "[^"]+"', f'__version__ = "{version}"')
    _replace(
        root / "CHANGELOG.md",
        r"## \[Unreleased\]\n",
        f"## [Unreleased]\n\n## [{version}] - {day}\n",
    )
    _replace(
        root / "install/vbg-camera.metainfo.xml",
        r"  <releases>\n",
        f'  <releases>\n    <release version="{version}" date="{day}"/>\n',
    )
    if site:
        shots = "".join(
            f"    <screenshot{kind}>\n      <image>{site.rstrip('/')}/docs/images/{name}</image>\n"
            f"      <caption>{caption}</caption>\n    </screenshot>\n"
            for name, caption, kind in SCREENSHOTS
        )
        _replace(
            root / "install/vbg-camera.metainfo.xml",
            r"  <releases>\n",
            f"  <screenshots>\n{shots}  </screenshots>\n  <releases>\n",
        )
    _replace(root / "install/packages/PKGBUILD", r"(?m)^pkgver=.*$", f"pkgver={version}")


def _replace(path: Path, pattern: str, by: str) -> None:
    text, count = re.subn(pattern, by, path.read_text(), count=1)
    if not count:
        raise Refused(f"{path.name} has no place for the version")
    path.write_text(text)


def weights(archive: zipfile.ZipFile) -> list[str]:
    """Problems of the trained weights: another SHA-256 than the card's, a file no card names."""
    problems, whole = [], 0
    told: dict[str, str] = {}
    for name in archive.namelist():
        if name.startswith("segmentation/weights/") and name.endswith(".md"):
            rows = re.findall(
                r"^\| ([\w.-]+) \| \d+ \| `([0-9a-f]{64})` \|$", archive.read(name).decode(), re.M
            )
            told |= dict(rows)
    for name in archive.namelist():
        file = name.removeprefix("segmentation/weights/")
        if file == name or not file or file.endswith(".md"):
            continue
        data = archive.read(name)
        whole += len(data)
        if file not in told:
            problems.append(f"no model card tells the SHA-256 of {file}")
        elif hashlib.sha256(data).hexdigest() != told[file]:
            problems.append(f"{file} is not the one that its model card tells of")
    if whole > WEIGHTS_MB * 1e6:
        problems.append(f"the weights take {whole / 1e6:.1f} MB, expected {WEIGHTS_MB:.0f} at most")
    return problems


def wheel_problems(wheel: Path) -> list[str]:
    """Everything wrong with a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        problems = [f"{name} is missing" for name in NEEDED if name not in names]
        problems += [f"{name} has no place in it" for name in names if STRANGE.search(name)]
        problems += [
            f"{name} has no place in it"
            for name in sorted({name.split("/")[0] for name in names})
            if not re.fullmatch(r"vcam|segmentation|train|vbg_camera-.*\.dist-info", name)
        ]
        about = next((n for n in names if n.endswith(".dist-info/METADATA")), "")
        text = archive.read(about).decode() if about else ""
        if "License-Expression: GPL-2.0-or-later" not in text:
            problems.append("its metadata do not tell the licence")
        if not any(name.endswith("licenses/LICENSE") for name in names):
            problems.append("the licence's text is missing")
        return [f"{wheel.name}: {problem}" for problem in [*problems, *weights(archive)]]


def source_problems(archive: Path) -> list[str]:
    """Everything wrong with a source archive."""
    with tarfile.open(archive) as opened:
        names = [name.split("/", 1)[-1] for name in opened.getnames()]
    wanted = ("README.md", "CHANGELOG.md", "LICENSE", "Makefile", "config.toml", "install/linux.sh")
    problems = [f"{name} is missing" for name in wanted if name not in names]
    problems += [
        f"{name} has no place in it"
        for name in names
        if STRANGE.search(name) and not name.startswith(".ci")
    ]
    return [f"{archive.name}: {problem}" for problem in problems]


def deb_problems(package: Path) -> list[str]:
    """Everything wrong with a Debian package."""
    told = run("dpkg-deb", "--contents", package)
    names = {line.split(None, 5)[5].split(" -> ")[0] for line in told.splitlines()}
    owners = {line.split()[1] for line in told.splitlines()}
    problems = [f"{name} is missing" for name in IN_DEB if name not in names]
    problems += [f"files belong to {owner}" for owner in sorted(owners - {"root/root"})]
    problems += [
        f"{line.split()[5]} may be written by anybody"
        for line in told.splitlines()
        if line[8] == "w" and line[0] != "l"
    ]
    return [f"{package.name}: {problem}" for problem in problems]


def bill(python: Path, out: Path) -> list[str]:
    """Write what the program brings along as CycloneDX; problems: whatever tells no licence."""
    tool = Path(sys.executable).with_name("cyclonedx-py")
    run(tool, "environment", python, "--of", "JSON", "-o", out, "--output-reproducible")
    return [
        f"{out.name}: {part['name']} {part.get('version', '')} tells no licence"
        for part in json.loads(out.read_text()).get("components", [])
        if not part.get("licenses") and not _classified(part)
    ]


def _classified(part: dict[str, object]) -> bool:
    """True if a licence stands where older packages have it, among the classifiers."""
    return "License ::" in json.dumps(part)


def sums(folder: Path) -> Path:
    """Write SHA256SUMS of everything in a folder."""
    path = folder / "SHA256SUMS"
    files = sorted(
        p for p in folder.iterdir() if p.is_file() and not p.name.startswith("SHA256SUMS")
    )
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    path.write_text("".join(lines))
    return path


def sign(path: Path, key: str) -> None:
    """Sign a file with a key of gpg's, beside it."""
    run("gpg", "--batch", "--yes", "--local-user", key, "--armor", "--detach-sign", path)


def check(folder: Path) -> list[str]:
    """Everything wrong with a folder of releases: sums, signature, contents."""
    problems: list[str] = []
    listed = folder / "SHA256SUMS"
    if not listed.exists():
        return [f"{listed} is missing"]
    told = dict(reversed(line.split("  ", 1)) for line in listed.read_text().splitlines())
    there = {p.name for p in folder.iterdir() if p.is_file()} - {"SHA256SUMS", "SHA256SUMS.asc"}
    problems += [f"{name} is missing" for name in sorted(told.keys() - there)]
    problems += [f"SHA256SUMS does not tell of {name}" for name in sorted(there - told.keys())]
    for name in sorted(told.keys() & there):
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != told[name]:
            problems.append(f"{name} is not what SHA256SUMS tells")
    signature = folder / "SHA256SUMS.asc"
    if signature.exists():
        try:
            run("gpg", "--batch", "--verify", signature, listed)
        except Refused as error:
            problems.append(str(error))
    # Damaged files are told above; their contents are nobody's.
    if not problems:
        for path in sorted(folder.iterdir()):
            for ending, look in (
                (".whl", wheel_problems),
                (".tar.gz", source_problems),
                (".deb", deb_problems),
            ):
                if path.name.endswith(ending):
                    problems += look(path)
    return problems


@contextlib.contextmanager
def copy_of(root: Path) -> Iterator[Path]:
    """A working tree of the last commit, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="vbg-release.") as name:
        place = Path(name) / "vbg-camera"
        run("git", "worktree", "add", "--detach", place, "HEAD", cwd=root)
        try:
            yield place
        finally:
            run("git", "worktree", "remove", "--force", place, cwd=root)


def built(source: Path, out: Path, *, deb: bool, stamp: str) -> list[str]:
    """Build everything from `source` into `out`, and start the wheel once; problems."""
    say("wheel and source archive")
    made = (
        "import sys; from hatchling import build; "
        "build.build_wheel(sys.argv[1]); build.build_sdist(sys.argv[1])"
    )
    run(sys.executable, "-c", made, out, cwd=source, SOURCE_DATE_EPOCH=stamp)
    (wheel,) = out.glob("*.whl")
    say("an environment with the wheel")
    with tempfile.TemporaryDirectory(prefix="vbg-release.") as name:
        venv = Path(name) / "venv"
        run(sys.executable, "-m", "venv", venv)
        python = venv / "bin/python"
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
        told = run(venv / "bin/vcam", "--version", cwd=venv).strip()
        problems = [] if told.split()[-1] in wheel.name else [f"{wheel.name} calls itself {told}"]
        say("bill of materials")
        problems += bill(python, out / wheel.name.replace("-py3-none-any.whl", ".cdx.json"))
    if deb:
        say("Debian package")
        run("bash", source / "install/deb.sh", out)
    return problems


def say(words: str) -> None:
    print(f"· {words}", flush=True)


def release(version: str, out: Path, *, deb: bool, key: str, site: str, rehearse: bool) -> None:
    """Make the release, in `out`.

    Raises:
        Refused: something is wrong; nothing was tagged.
    """
    ready(version, ROOT)
    if out.exists() and any(out.iterdir()):
        raise Refused(f"{out} is not empty\nRun: rm -r {out}")
    out.mkdir(parents=True, exist_ok=True)
    day = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    with copy_of(ROOT) as source:
        number(source, version, day, site)
        run("git", "commit", "--quiet", "-am", f"Release {version}", cwd=source)
        commit = run("git", "rev-parse", "HEAD", cwd=source).strip()
        stamp = run("git", "log", "-1", "--format=%ct", cwd=source).strip()
        problems = built(source, out, deb=deb, stamp=stamp)
    listed = sums(out)
    if key:
        sign(listed, key)
    if problems := [*problems, *check(out)]:
        raise Refused("what was built is not fit to be given away:\n" + "\n".join(problems))
    notes = unreleased((ROOT / "CHANGELOG.md").read_text())
    if rehearse:
        say(f"rehearsed: {out} has everything, nothing was tagged")
        return
    run("git", "merge", "--ff-only", "--quiet", commit, cwd=ROOT)
    sign_as = ("-s", "-u", key) if key else ("-a",)
    run(
        "git",
        "tag",
        *sign_as,
        f"v{version}",
        "-m",
        f"VBG Camera {version}\n\n{notes}",
        commit,
        cwd=ROOT,
    )
    say(f"tagged v{version}; {out} has what goes with it")
    say("Run: git push --follow-tags")


def main(words: Iterable[str] | None = None) -> int:
    """Make or check a release; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("version", nargs="?", help="three numbers, as in 0.2.0")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "dist", metavar="FOLDER")
    parser.add_argument("--no-deb", action="store_true", help="without the Debian package")
    parser.add_argument("--key", default="", help="of gpg's, to sign tag and sums with")
    parser.add_argument("--site", default="", metavar="URL", help="where docs/images is published")
    parser.add_argument("--rehearse", action="store_true", help="tag nothing, change nothing")
    parser.add_argument(
        "--check", type=Path, metavar="FOLDER", help="look at a release and no more"
    )
    asked = parser.parse_args(None if words is None else list(words))
    try:
        if asked.check:
            problems = check(asked.check)
            print("\n".join(problems) or f"{asked.check} is whole")
            return 1 if problems else 0
        if not asked.version:
            parser.error("which version? for example: 0.2.0")
        deb = not asked.no_deb and shutil.which("dpkg-deb") is not None
        release(
            asked.version,
            asked.output,
            deb=deb,
            key=asked.key,
            site=asked.site,
            rehearse=asked.rehearse,
        )
    except Refused as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
