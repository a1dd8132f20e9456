"""install/release.py: what it lets out, and what it does not; recipes for other packagings."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.install.test_wheel import built, run
from vcam import __version__
from vcam.commands import update

from .conftest import REPOSITORY

SCRIPT = REPOSITORY / "install/release.py"
METAINFO = REPOSITORY / "install/vbg-camera.metainfo.xml"


@pytest.fixture(scope="module")
def release() -> ModuleType:
    """The script, as a module."""
    from importlib import util

    spec = util.spec_from_file_location("release", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel of this state of the code."""
    folder = tmp_path_factory.mktemp("made")
    built("build_wheel", folder)
    return folder


@pytest.fixture
def dist(made: Path, tmp_path: Path) -> Path:
    """The same folder, to be spoilt."""
    return Path(shutil.copytree(made, tmp_path / "dist"))


def changed(wheel: Path, change: Callable[[str, bytes], bytes | None], **more: bytes) -> None:
    """Write a wheel again with other files in it; None leaves one out."""
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            if (new := change(name, data)) is not None:
                archive.writestr(name, new)
        for name, data in more.items():
            archive.writestr(name, data)


def test_what_was_built_and_summed_is_whole(release: ModuleType, dist: Path) -> None:
    release.sums(dist)

    assert release.check(dist) == []
    assert "is whole" in run(sys.executable, SCRIPT, "--check", dist)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("weights", "bisenet-small-int8.bin is not the one that its model card tells of"),
        ("missing", "vcam/config.toml is missing"),
        ("key", "vcam/server.pem has no place in it"),
        ("folder", "tests has no place in it"),
        ("licence", "the licence's text is missing"),
        ("stranger", "no model card tells the SHA-256 of other.bin"),
    ],
)
def test_a_wheel_that_is_not_fit_is_named_with_its_fault(
    release: ModuleType, dist: Path, spoil: str, said: str
) -> None:
    (wheel,) = dist.glob("*.whl")
    gone = {"missing": "vcam/config.toml", "licence": "licenses/LICENSE"}.get(spoil, "/none/")
    more = {
        "key": {"vcam/server.pem": b"-"},
        "folder": {"tests/a.py": b""},
        "stranger": {"segmentation/weights/other.bin": b"-"},
    }.get(spoil, {})

    def change(name: str, data: bytes) -> bytes | None:
        if name.endswith(gone):
            return None
        if spoil == "weights" and name.endswith("small-int8.bin"):
            return bytes([data[0] ^ 1]) + data[1:]
        return data

    changed(wheel, change, **more)
    release.sums(dist)

    (problem,) = release.check(dist)
    assert problem == f"{wheel.name}: {said}"


def test_what_was_changed_after_it_was_signed_is_found(
    release: ModuleType, dist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("gpg"):
        pytest.skip("apt-get install gnupg")
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    run("gpg", "--batch", "--passphrase", "", "--quick-gen-key", "releases@localhost", "ed25519")
    listed = release.sums(dist)
    release.sign(listed, "releases@localhost")
    assert release.check(dist) == []

    (wheel,) = dist.glob("*.whl")
    wheel.write_bytes(wheel.read_bytes() + b"-")
    assert release.check(dist) == [f"{wheel.name} is not what SHA256SUMS tells"]

    release.sums(dist)  # as who changed it would
    assert "BAD signature" in release.check(dist)[0]
    listed.unlink()
    assert release.check(dist) == [f"{listed} is missing"]
    run("gpgconf", "--kill", "all")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with what a release touches."""
    root = tmp_path / "repository"
    for name in ("vcam/__init__.py", "CHANGELOG.md", "install/vbg-camera.metainfo.xml",
                 "install/packages/PKGBUILD"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    text = (root / "CHANGELOG.md").read_text()
    if "## [Unreleased]\n\n##" in text:
        text = text.replace("## [Unreleased]\n", "## [Unreleased]\n\n- One thing.\n", 1)
        (root / "CHANGELOG.md").write_text(text)
    for words in (
        ("init", "-q"),
        ("add", "-A"),
        ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"),
    ):
        run("git", *words, cwd=root)
    return root


def test_the_version_is_written_everywhere(release: ModuleType, repository: Path) -> None:
    before = release.unreleased((repository / "CHANGELOG.md").read_text())

    release.number(repository, "9.8.7", "2030-01-02", "https://camera.example/source/")

    assert '__version__ = "9.8.7"' in (repository / "vcam/__init__.py").read_text()
    assert "\npkgver=9.8.7\n" in (repository / "install/packages/PKGBUILD").read_text()
    changelog = (repository / "CHANGELOG.md").read_text()
    assert "## [Unreleased]\n\n## [9.8.7] - 2030-01-02\n" in changelog
    assert release.unreleased(changelog) == ""
    assert before in changelog
    metainfo = (repository / "install/vbg-camera.metainfo.xml").read_text()
    assert '<release version="9.8.7" date="2030-01-02"/>' in metainfo
    pictures = re.findall(r"<image>https://camera.example/source/(.*)</image>", metainfo)
    assert len(pictures) == 2
    assert all((REPOSITORY / name).exists() for name in pictures)
    validated(repository / "install/vbg-camera.metainfo.xml")


def validated(path: Path) -> None:
    if not shutil.which("appstreamcli"):
        pytest.skip("apt-get install appstream")
    run("appstreamcli", "validate", "--no-net", "--no-color", path)


@pytest.mark.parametrize(
    ("version", "spoil", "said"),
    [
        ("2", "", "is no version"),
        ("9.8.7", "file", "changes without a commit"),
        ("9.8.7", "tag", "v9.8.7 is there already"),
        ("9.8.7", "changelog", "tells nothing under"),
    ],
)
def test_a_repository_that_is_not_ready_is_refused(
    release: ModuleType, repository: Path, version: str, spoil: str, said: str
) -> None:
    if spoil == "tag":
        run("git", "tag", "v9.8.7", cwd=repository)
    elif spoil:
        release.number(repository, "9.8.6", "2030-01-01")
    if spoil == "changelog":
        run(
            "git",
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "commit",
            "-qam",
            "y",
            cwd=repository,
        )

    with pytest.raises(release.Refused, match=said):
        release.ready(version, repository)


def test_recipes_of_other_packagings_are_sound() -> None:
    validated(METAINFO)
    assert f'<release version="{__version__}"' in METAINFO.read_text()
    for entry in (REPOSITORY / "install").glob("*.desktop"):
        if shutil.which("desktop-file-validate"):
            run("desktop-file-validate", entry)
    recipe = REPOSITORY / "install/packages/PKGBUILD"
    assert f"\npkgver={__version__}\n" in recipe.read_text()
    if shutil.which("shellcheck"):
        run("shellcheck", "-s", "bash", recipe)
    told = run("bash", "-ec", f". {recipe}; declare -F package; echo $pkgname ${{license[0]}}")
    assert told.split() == ["package", "vbg-camera", "GPL-2.0-or-later"]
    manifest = json.loads((REPOSITORY / "install/packages/vbg-camera.flatpak.json").read_text())
    files = re.findall(r"install/\S+\.(?:desktop|svg|xml)", str(manifest["modules"]))
    assert files
    assert all((REPOSITORY / name).exists() for name in files)


def index(folder: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have pip find one release, in a folder."""
    with zipfile.ZipFile(folder / f"vbg_camera-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr("a", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(update, "_ROOT", folder)  # which is no working copy


@pytest.mark.parametrize(
    ("version", "said"), [("99.0.0", "Version 99.0.0 is out"), ("0.0.1", "is the newest version")]
)
def test_a_newer_version_is_told_and_nothing_is_installed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    version: str,
    said: str,
) -> None:
    from vcam.cli import main

    index(tmp_path, version, monkeypatch)

    assert main(["update", "--check"]) == 0
    assert said in capsys.readouterr().out
    assert os.listdir(tmp_path) == [f"vbg_camera-{version}-py3-none-any.whl"]


def test_without_anybody_to_ask_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vcam.cli import main

    index(tmp_path, "1.0", monkeypatch)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))

    assert main(["update", "--check"]) == 1
    assert "pip finds no released version" in capsys.readouterr().err
    monkeypatch.setattr(update, "_ROOT", REPOSITORY)
    assert main(["update", "--check"]) == 0
    assert "working copy" in capsys.readouterr().out


def test_versions_sort_as_their_numbers() -> None:
    order = ["0.2.0rc1", "0.2.0", "0.2.1", "0.10.0~rc1", "0.10.0", "1.0"]

    assert sorted(reversed(order), key=update._order) == order


@pytest.mark.slow
@pytest.mark.skipif(
    os.environ.get("VCAM_TEST_INSTALL") != "1",
    reason="set VCAM_TEST_INSTALL=1: it makes clean environments, a gigabyte each",
)
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_pipx_installs_the_wheel(made: Path, tmp_path: Path, python: str) -> None:
    if not (found := shutil.which(f"python{python}")):
        pytest.skip(f"there is no Python {python} here")
    if subprocess.run([found, "--version"], capture_output=True, check=False).returncode:
        pytest.skip(f"{found} leads nowhere")
    (wheel,) = made.glob("*.whl")
    tools = tmp_path / "tools"
    run(sys.executable, "-m", "venv", tools)
    run(tools / "bin/python", "-m", "pip", "install", "--quiet", "pipx")
    homes = {"PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "bin")}

    run(tools / "bin/pipx", "install", "--python", found, wheel, **homes)

    home = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    assert run(tmp_path / "bin/vcam", "--version", **home).strip() == f"vcam {__version__}"
    (portrait,) = tmp_path.glob("pipx/venvs/*/lib/*/site-packages/vcam/assets/portrait.jpg")
    run(
        tmp_path / "bin/vcam",
        "render",
        portrait,
        "-o",
        tmp_path / "o.png",
        "--background",
        "blur",
        **home,
    )
    assert (tmp_path / "o.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.skipif(
    os.environ.get("VCAM_TEST_INSTALL") != "1",
    reason="set VCAM_TEST_INSTALL=1: it takes minutes and a gigabyte of disk",
)
def test_a_release_is_rehearsed_and_made(tmp_path: Path) -> None:
    clone, out = tmp_path / "clone", tmp_path / "out"
    run("git", "clone", "--quiet", REPOSITORY, clone)
    run("git", "config", "user.name", "a", cwd=clone)
    run("git", "config", "user.email", "a@b", cwd=clone)
    command = [sys.executable, clone / "install/release.py", "9.8.7", "--no-deb", "-o", out]

    said = run(*command, cwd=clone)

    assert "tagged v9.8.7" in said
    assert {path.suffix for path in out.iterdir()} == {".whl", ".gz", ".json", ""}
    assert run("git", "describe", "--tags", cwd=clone).strip() == "v9.8.7"
    assert run("git", "status", "--porcelain", cwd=clone) == ""
    assert "is whole" in run(sys.executable, clone / "install/release.py", "--check", out)
