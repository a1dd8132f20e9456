"""`vcam personalise`: pictures that nobody else can open, and that end with the command."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from segmentation.planes import Planes
from tests.fakes import ListSource, room
from vcam.commands import personalise
from vcam.commands.personalise import lesson, pictures
from vcam.commands.personalise.pictures import Step
from vcam.errors import ModelError, SourceError, Stopped, UsageError
from vcam.files import takes
from vcam.files.takes import Take
from vcam.settings.config import load
from vcam.system import paths
from vcam.system.interrupt import Interrupt

STEPS = (Step("0-empty", "Away.", 0.3), Step("1-sit", "Sit.", 0.3))
VERDICT = {
    "before": dict.fromkeys(("miou", "known", "leak", "rooms", "stranger"), 0.5),
    "after": dict.fromkeys(("miou", "known", "leak", "rooms", "stranger"), 0.6),
}


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    for name in ("XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        (tmp_path / name).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(tmp_path / name))


class Slow(ListSource):
    """A camera of sixty frames a second."""

    def read(self, timeout: float):
        time.sleep(1 / 60)
        return super().read(timeout)


def test_each_step_leaves_pictures_that_only_the_user_can_open(monkeypatch):
    monkeypatch.setattr(pictures, "EVERY", 0.1)
    with Interrupt() as interrupt, Take() as take:
        pictures.capture(
            lambda: Slow([room(seq) for seq in range(200)]), STEPS, take, interrupt, countdown=0
        )
        found = sorted(path.name.partition("_")[0] for path in take.pictures.iterdir())
        mode = stat.S_IMODE(take.pictures.parent.stat().st_mode)
    assert found.count("0-empty") >= 2
    assert found.count("1-sit") >= 2
    assert mode == 0o700
    assert not take.pictures.parent.exists(), "deleted at the end"


def test_pictures_are_deleted_when_the_camera_fails_or_the_user_ends_it():
    for end in (SourceError("gone"), Stopped("stopped", signal.SIGTERM), KeyboardInterrupt()):
        folder = []
        with pytest.raises(type(end)):
            _broken_off(end, folder)
        assert not folder[0].parent.exists()


def _broken_off(end: BaseException, folder: list[Path]) -> None:
    with Take() as take:
        take.add(Planes(*_planes()), "1-sit", 0.0)
        folder += take.pictures.iterdir()
        assert folder
        folder[0] = take.pictures
        raise end


def _planes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    chroma = np.full((18, 32), 128, np.uint8)
    return np.full((36, 64), 90, np.uint8), chroma, chroma


def test_a_second_take_waits_and_what_a_killed_one_left_is_swept():
    code = (
        "import sys, time, pathlib; from vcam.files.takes import Take\n"
        "with Take() as take:\n"
        "    (take.pictures / 'a.jpg').write_bytes(b'you'); print('there', flush=True)\n"
        "    time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"there\n"
        folder = paths.runtime_dir() / "take"
        takes.sweep()
        assert (folder / "pictures" / "a.jpg").exists(), "one that runs is left alone"
        with pytest.raises(UsageError, match="another"), Take():
            pass

        process.kill()
        process.wait()
    takes.sweep()
    assert not folder.exists()


def test_who_learns_ends_with_the_command_and_its_words_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr(lesson.shutil, "which", lambda name: None)
    fake = tmp_path / "train"
    fake.mkdir()
    (fake / "__init__.py").touch()
    (fake / "__main__.py").write_text(
        "import sys; print('train: hardly anybody was seen', file=sys.stderr); sys.exit(1)"
    )
    monkeypatch.chdir(tmp_path)
    with Interrupt() as interrupt, Take() as take:
        with pytest.raises(ModelError, match="hardly anybody"):
            lesson.taught(take, interrupt)
        take.work.rmdir()
        (fake / "__main__.py").write_text("import time; time.sleep(60)")
        started = time.monotonic()
        interrupt._signum = signal.SIGTERM
        with pytest.raises(Stopped):
            lesson.taught(take, interrupt)
    assert time.monotonic() - started < 10


def test_a_better_network_is_used_and_one_command_takes_it_back(tmp_path, capsys):
    net = tmp_path / "net"
    net.mkdir()
    for name in ("personal-int8.xml", "personal-int8.bin", "personal.safetensors"):
        (net / name).write_bytes(b"weights")

    personalise.settle({**VERDICT, "better": False, "model": str(net / "personal-int8.xml")})
    assert load().matte.model == "auto"
    personalise.settle({**VERDICT, "better": True, "model": str(net / "personal-int8.xml")})
    model = Path(load().matte.model)

    assert model.parent == paths.personal_dir()
    assert model.with_suffix(".bin").read_bytes() == b"weights"
    assert stat.S_IMODE(model.parent.stat().st_mode) == 0o700
    assert personalise.remove() == 0
    assert load().matte.model == "auto"
    assert not list(paths.personal_dir().iterdir())
    assert "0.5000 → 0.6000" in capsys.readouterr().out


def test_taking_it_back_leaves_the_pictures_and_the_model_that_was_set_before(tmp_path, capsys):
    net, own = tmp_path / "net", tmp_path / "mine.xml"
    net.mkdir()
    own.write_bytes(b"weights")
    personalise.change({"matte": {"model": str(own)}})
    for weights in (b"first", b"second"):
        for name in ("personal-int8.xml", "personal-int8.bin", "personal.safetensors"):
            (net / name).write_bytes(weights)
        personalise.settle({**VERDICT, "better": True, "model": str(net / "personal-int8.xml")})
    kept = paths.personal_dir() / "pictures-2026-01-01-120000"
    kept.mkdir()

    assert personalise.remove() == 0

    assert load().matte.model == str(own)
    assert list(paths.personal_dir().iterdir()) == [kept]
    assert str(kept.parent) in capsys.readouterr().out


def test_what_is_missing_is_told_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(personalise.importlib.util, "find_spec", lambda name: None)
    options = type("Options", (), {"remove": False})()

    with pytest.raises(UsageError, match="torch") as caught:
        personalise.run(options)
    assert sys.executable in caught.value.hint
    assert "[train]" in caught.value.hint


def test_others_see_the_card_while_pictures_are_taken(monkeypatch, tmp_path):
    asked, states = [], iter(("live", "paused"))

    class Daemon:
        """Pauses some time after it was asked to."""

        def pause(self) -> None:
            asked.append("pause")

        def status(self) -> dict[str, str]:
            return {"state": next(states)}

    monkeypatch.setattr(personalise.Client, "connect", lambda: Daemon())
    monkeypatch.setattr(personalise, "check_source", lambda *about: None)
    monkeypatch.setattr(personalise.time, "sleep", lambda seconds: None)
    options = type("Options", (), {"source": "/dev/video9", "config": None})()

    personalise._opener(options)

    assert asked == ["pause"]
    assert next(states, "waited until it is paused") == "waited until it is paused"
