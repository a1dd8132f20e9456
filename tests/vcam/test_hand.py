"""Commands for the hand: toggle, get and set, backgrounds by nearly their name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.control.doors import PlayRuntime
from vcam import cli
from vcam.control.server import serve
from vcam.settings.config import load, user_path
from vcam.system import paths


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        (tmp_path / name).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(tmp_path / name))


def vcam(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.main(words)
    said = capsys.readouterr()
    return code, (said.out + said.err).strip()


def test_settings_are_got_and_set_without_a_daemon_and_kept(capsys):
    assert vcam(capsys, "set", "output.fps", "24") == (0, "output.fps = 24.0")
    assert vcam(capsys, "get", "fps")[0] == 2  # two sections have one
    assert vcam(capsys, "get", "output.fps") == (0, "24.0")
    assert vcam(capsys, "set", "mirror", "yes") == (0, "camera.mirror = true")

    assert load(user_path()).output.fps == 24
    assert "camera.mirror = true" in vcam(capsys, "get")[1].splitlines()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("get", "camera.miror"), 2, "did you mean camera.mirror?"),
        (("set", "output.fps", "fast"), 3, "output.fps is 'fast', expected a number from 1 to 120"),
        (("set", "matte.quality", "hihg"), 3, "quality is 'hihg'"),
        (("set", "background.use", "none"), 2, "--show-my-room"),
        (("background", "#12"), 3, "background is '#12', expected \"#rrggbb\""),
    ],
)
def test_what_was_typed_is_named_and_nothing_is_written(capsys, words, code, said):
    answer = vcam(capsys, *words)

    assert answer[0] == code
    assert said in answer[1]
    assert "config.toml" not in answer[1]
    assert not user_path().exists()


def test_a_variable_is_blamed_by_its_name(capsys, monkeypatch):
    monkeypatch.setenv("VCAM_OUTPUT_FPS", "fast")

    code, said = vcam(capsys, "set", "camera.mirror", "true")

    assert code == 3
    assert said.startswith("vcam: VCAM_OUTPUT_FPS is 'fast', expected a number from 1 to 120")


def test_toggle_set_and_a_background_in_any_case_reach_the_daemon(capsys):
    runtime = PlayRuntime()
    with serve(runtime, socket_path=paths.socket_path()):
        assert vcam(capsys, "toggle") == (0, "Paused: others see the card.")
        assert runtime.settings.mode == "paused"
        assert vcam(capsys, "toggle") == (0, "Live.")
        runtime.settings.set_mode("frozen")
        assert vcam(capsys, "toggle") == (0, "Live.")

        assert vcam(capsys, "background", "Forest") == (0, "Background: forest")
        assert runtime.settings.current.background.use == "forest"
        assert vcam(capsys, "set", "background.blur", "60") == (0, "background.blur = 60")
        assert runtime.settings.current.background.blur == 60


def test_a_background_that_is_nearly_one_is_guessed(capsys):
    from vcam.compose.backdrops import open_backdrop
    from vcam.errors import BackgroundError

    with pytest.raises(BackgroundError, match="did you mean 'forest'"):
        open_backdrop("forrest", 64, 36)


def test_render_takes_a_quality():
    options = cli.build_parser().parse_args(["render", "a.jpg", "--quality", "low"])
    from vcam.commands.options import load_config

    assert load_config(options).matte.quality == "low"


def test_no_frames_to_measure_are_a_usage_error(capsys):
    assert vcam(capsys, "bench", "--frames", "0")[0] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("backgroud",), "'backgroud' is not known; did you mean background?"),
        (("config", "chek"), "'chek' is not known; did you mean check?"),
        (("room", "x"), "'x' is not known; choose from 'learn', 'forget'"),
    ],
)
def test_a_mistyped_command_is_told_the_nearest_one(capsys, words, said):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)

    assert ended.value.code == 2
    assert capsys.readouterr().err.strip().endswith(said)


def test_a_word_like_nothing_gets_the_commands_without_the_one_for_shells(capsys):
    with pytest.raises(SystemExit):
        cli.main(["xyzzy"])

    said = capsys.readouterr().err
    assert "'background'" in said
    assert "complete" not in said
