"""Manual page and completions, read by the programs they are for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vcam import manual
from vcam.cli import build_parser


def need(program: str, package: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"apt-get install {package}")


def test_the_manual_page_names_every_command_and_flag_and_man_has_no_complaint(
    tmp_path: Path,
) -> None:
    need("man", "man-db")
    page = tmp_path / "vcam.1"
    page.write_text(manual.man())

    done = subprocess.run(
        ["man", "--warnings", "-l", str(page)],
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "100", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stderr == ""
    for name, command, _ in manual.commands(build_parser()):
        assert name in done.stdout
        for action in manual.options(command):
            assert action.option_strings[-1] in done.stdout


def complete(folder: Path, *words: str) -> set[str]:
    """What bash offers after `vcam WORDS`, the last of which is being typed."""
    need("bash", "bash")
    script = folder / "vcam.bash"
    script.write_text(manual.bash())
    program = folder.with_name(f"{folder.name}-bin") / "vcam"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m vcam "$@"\n')
    program.chmod(0o755)
    typed = " ".join(f"'{word}'" for word in ("vcam", *words))
    done = subprocess.run(
        [
            "bash",
            "-c",
            f"source {script}; COMP_WORDS=({typed}); COMP_CWORD={len(words)}; _vcam; "
            'printf "%s\\n" "${COMPREPLY[@]}"',
        ],
        cwd=folder,
        env=os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_completes_commands_flags_words_and_files(tmp_path: Path) -> None:
    (tmp_path / "sea.jpg").touch()
    (tmp_path / "mattes").mkdir()

    assert complete(tmp_path, "st") == {"start", "stop", "status"}
    assert "--foreground" in complete(tmp_path, "start", "--")
    assert complete(tmp_path, "start", "--background", "se") == {"sea.jpg"}
    assert complete(tmp_path, "background", "bl") == {"blur"}
    assert complete(tmp_path, "background", "st") == {"studio", "study"}
    assert complete(tmp_path, "background", "se") == {"sea.jpg"}
    assert complete(tmp_path, "config", "") == {"path", "show", "check"}
    assert complete(tmp_path, "render", "--alpha", "") == {"mattes"}
    assert complete(tmp_path, "pause", "se") == set()


def test_bash_knows_presets_cameras_sinks_qualities_and_settings(tmp_path: Path) -> None:
    assert complete(tmp_path, "background", "fo") == {"forest"}
    assert complete(tmp_path, "start", "--background", "ne") == {"next"}
    assert complete(tmp_path, "start", "--source", "de") == {"demo"}
    assert complete(tmp_path, "start", "--sink", "pi") == {"pipewire"}
    assert complete(tmp_path, "bench", "--quality", "") == {"low", "balanced", "high"}
    assert complete(tmp_path, "render", "--quality", "h") == {"high"}
    assert complete(tmp_path, "set", "camera.m") == {"camera.mirror"}
    assert complete(tmp_path, "set", "camera.mirror", "") == {"true", "false"}
    assert complete(tmp_path, "set", "matte.quality", "b") == {"balanced"}
    assert complete(tmp_path, "get", "output.fp") == {"output.fps"}


def test_zsh_reads_the_completion_without_complaint(tmp_path: Path) -> None:
    need("zsh", "zsh")
    (tmp_path / "_vcam").write_text(manual.zsh())

    done = subprocess.run(
        ["zsh", "-f", "-c", f"autoload -Uz compinit; compinit -u -d {tmp_path}/dump; "
         f"source {tmp_path}/_vcam; print $_comps[vcam]"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stderr == ""
    assert done.stdout.strip() == "_vcam"


def test_fish_gets_a_line_for_every_flag() -> None:
    text = manual.fish()

    for name, command, _ in manual.commands(build_parser()):
        assert f"-a {name} " in text
        for action in manual.options(command):
            assert f" -l {action.option_strings[-1][2:]} " in text


def test_asking_for_another_shell_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["manual", "tcsh"])

    assert manual.main() == 2
    assert "man|bash|zsh|fish" in capsys.readouterr().err
