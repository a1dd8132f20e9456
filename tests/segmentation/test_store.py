"""What is kept on disk is believed only where nobody else can write, and only undamaged."""

from __future__ import annotations

import importlib.util
import os
import pickle
import random
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from segmentation import jit, store
from segmentation.engines import answers
from segmentation.engines.openvino import OpenVinoEngine
from segmentation.planes import Planes
from segmentation.segmenter import Machine, Segmenter
from segmentation.store import Store

ROOT = Path(__file__).parents[2]
unix = pytest.mark.skipif(os.name == "nt", reason="owners and modes of Unix")
as_root = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives files to others"
)


@pytest.fixture(autouse=True)
def notes(monkeypatch) -> Iterator[list[str]]:
    found: list[str] = []
    monkeypatch.setattr(store, "notes", found)
    jit._folder.cache_clear()
    yield found
    jit._folder.cache_clear()


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(3):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda p: os.truncate(p, p.stat().st_size // 2),
    "cut short by 4 KiB": lambda p: os.truncate(p, max(0, p.stat().st_size - 4096)),
    "emptied": lambda p: p.write_bytes(b""),
    "zeroed": lambda p: p.write_bytes(bytes(p.stat().st_size)),
    "the end zeroed": lambda p: p.write_bytes(
        p.read_bytes()[: p.stat().st_size // 2] + bytes(p.stat().st_size - p.stat().st_size // 2)
    ),
    "bits flipped": flipped,
    "the head gone": lambda p: p.write_bytes(p.read_bytes()[100:]),
    "more at the end": lambda p: p.write_bytes(p.read_bytes() + b"more"),
    "noise": lambda p: p.write_bytes(b"\0" + os.urandom(p.stat().st_size)),  # "{" would be JSON
    "a folder": lambda p: (p.unlink(), p.mkdir()),
}


def test_what_is_kept_comes_back_and_something_else_does_not(tmp_path, notes):
    kept = Store(tmp_path, "things")

    kept.put("one", b"1" * 5000)

    assert kept.get("one") == b"1" * 5000
    assert kept.get("two") is None
    assert Store(None, "things").get("one") is None
    assert notes == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_not_used_and_said_once(tmp_path, notes, damage):
    kept = Store(tmp_path, "things")
    kept.put("one", bytes(range(256)) * 40)

    DAMAGES[damage](tmp_path / "one")

    assert kept.get("one") is None
    assert len(notes) == 1
    assert notes[0].startswith("The things on disk cannot be used and are made anew: one: ")
    kept.get("one")
    assert len(notes) == 1


def test_a_file_under_another_files_name_is_not_used(tmp_path):
    kept = Store(tmp_path, "things")
    kept.put("one", b"1")

    shutil.copy(tmp_path / "one", tmp_path / "two")

    assert kept.get("two") is None
    assert kept.get("one") == b"1"


def test_only_the_newest_of_a_kind_stay(tmp_path):
    kept = Store(tmp_path, "things")
    (tmp_path / ".killed.part").write_bytes(b"half")
    os.utime(tmp_path / ".killed.part", (0, 0))
    (tmp_path / ".working.part").write_bytes(b"half")

    for n in range(9):
        kept.put(f"a-{n}", b"", alike="a-*", most=3)
        os.utime(tmp_path / f"a-{n}", (n, n))
    kept.put("a-9", b"", alike="a-*", most=3)

    assert sorted(p.name for p in tmp_path.iterdir()) == [".working.part", "a-7", "a-8", "a-9"]


@unix
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
def test_a_folder_that_others_write_to_is_neither_read_nor_written(tmp_path, notes, mode):
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(mode)

    assert store.private([open_to_all]) is None
    assert "others may write to" in notes[0]


@unix
def test_a_folder_inside_one_that_others_write_to_is_only_safe_below_the_sticky_bit(tmp_path):
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    inner.mkdir(parents=True, mode=0o700)

    outer.chmod(0o1777)
    assert store.why_not(inner) == ""
    outer.chmod(0o777)
    assert "outer" in store.why_not(inner)


@as_root
def test_a_folder_of_somebody_else_is_not_used(tmp_path, notes):
    theirs, inside = tmp_path / "theirs", tmp_path / "theirs" / "mine"
    inside.mkdir(parents=True)
    os.chown(theirs, 65534, 65534)

    assert "belongs to uid 65534" in store.why_not(theirs)
    assert "belongs to uid 65534" in store.why_not(inside)
    assert store.private([theirs, tmp_path / "other"]) == (tmp_path / "other").resolve()
    assert "belongs to uid 65534" in notes[0]


@as_root
def test_a_link_is_judged_by_where_it_leads(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    (tmp_path / "link").symlink_to(theirs)

    assert "belongs to uid 65534" in store.why_not(tmp_path / "link")


@as_root
@pytest.mark.parametrize("how", ["theirs", "writable", "a link", "a pipe"])
def test_a_file_that_somebody_else_can_write_is_not_read(tmp_path, how):
    kept = Store(tmp_path, "things")
    kept.put("one", b"1")
    path = tmp_path / "one"

    if how == "theirs":
        os.chown(path, 65534, 65534)
    elif how == "writable":
        path.chmod(0o666)
    elif how == "a link":
        path.rename(tmp_path / "else")
        path.symlink_to(tmp_path / "else")
    else:
        path.unlink()
        os.mkfifo(path)

    assert kept.get("one") is None


@as_root
def test_a_group_of_ones_own_may_write_and_another_may_not(tmp_path, monkeypatch):
    place = tmp_path / "place"
    place.mkdir(mode=0o700)
    place.chmod(0o775)
    assert store.why_not(place) == ""  # root's group is root's alone

    os.chown(place, 0, 65534)
    assert "others may write" in store.why_not(place)


@unix
def test_without_a_home_there_is_a_folder_that_the_second_start_finds_again(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    found = store.fallbacks()
    monkeypatch.setenv("HOME", str(tmp_path))

    assert found[0] == Path(f"/var/tmp/vcam-cache-{os.getuid()}")
    assert tmp_path in store.fallbacks()[0].parents


LOOP = """
from segmentation.jit import compiled
@compiled("i8(i8)")
def double(x):
    return x * {times}
"""


def loop(path: Path, times: int = 2, source: str = LOOP) -> Callable[[int], int]:
    """Import the loop in `path`, as a start of the program does."""
    path.write_text(source.format(times=times))
    jit._digest.cache_clear()
    spec = importlib.util.spec_from_file_location("loop", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.double


@pytest.fixture
def loops(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "loops"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder))
    return folder


@pytest.mark.skipif(not jit._has_numba(), reason="needs numba")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_loop_that_is_damaged_on_disk_is_compiled_anew(tmp_path, loops, notes, damage):
    assert loop(tmp_path / "loop.py")(21) == 42
    (kept,) = loops.glob("double-*.loop")
    DAMAGES[damage](kept)

    assert loop(tmp_path / "loop.py")(21) == 42

    assert len(notes) == 1
    assert "compiled pixel loops" in notes[0]
    assert sum(loop(tmp_path / "loop.py").stats.cache_hits.values()) == 1  # kept again


@pytest.mark.skipif(not jit._has_numba(), reason="needs numba")
def test_a_loop_is_taken_from_disk_unless_its_source_changed(tmp_path, loops, monkeypatch):
    first = loop(tmp_path / "loop.py")
    assert first(21) == 42
    hits = lambda made: sum(made.stats.cache_hits.values())  # noqa: E731

    again, other = loop(tmp_path / "loop.py"), loop(tmp_path / "loop.py", times=3)

    assert (hits(first), hits(again), hits(other)) == (0, 1, 0)
    assert other(21) == 63


@pytest.mark.skipif(not jit._has_numba(), reason="needs numba")
def test_a_loop_is_compiled_anew_when_a_constant_of_another_file_changed(
    tmp_path, loops, monkeypatch
):
    source = "from lent import TIMES\n" + LOOP.format(times="TIMES")
    made = []
    for times in (2, 3):
        monkeypatch.setitem(sys.modules, "lent", types.SimpleNamespace(TIMES=times))
        made.append(loop(tmp_path / "loop.py", source=source))

    assert [double(21) for double in made] == [42, 63]


class Spy:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


@unix
@pytest.mark.skipif(not jit._has_numba(), reason="needs numba")
@pytest.mark.parametrize("how", ["no checksum", "a folder for all", "a file of somebody else"])
def test_a_pickle_of_somebody_else_is_never_run(tmp_path, loops, how):
    """With its right checksum too, which anybody can make, where others may write."""
    loop(tmp_path / "loop.py")
    (kept,) = loops.glob("double-*.loop")
    spy = pickle.dumps(Spy(tmp_path / "caught"))
    if how == "no checksum":
        kept.write_bytes(spy)
    else:
        Store(loops, "").put(kept.name, spy)
    if how == "a folder for all":
        loops.chmod(0o777)
        jit._folder.cache_clear()
    elif how == "a file of somebody else":
        if os.getuid() != 0:
            pytest.skip("only root gives files to others")
        os.chown(kept, 65534, 65534)

    assert loop(tmp_path / "loop.py")(21) == 42
    assert not (tmp_path / "caught").exists()


@pytest.mark.skipif(not jit._has_numba(), reason="needs numba")
def test_the_spy_would_be_seen(tmp_path, loops):
    loop(tmp_path / "loop.py")
    (kept,) = loops.glob("double-*.loop")
    Store(loops, "").put(kept.name, pickle.dumps(Spy(tmp_path / "caught")))

    loop(tmp_path / "loop.py")

    assert (tmp_path / "caught").exists()


def raw(cache: Path) -> np.ndarray:
    """Return the network's answer to somebody before a room, opened as the program does."""
    segmenter = Segmenter(machine=Machine(cache_dir=cache))
    segmenter.prepare(216, 384)
    y, u, v = answers.pictures(216, 384)[0]
    halves = (plane[::2, ::2].copy() for plane in (u, v))
    found = segmenter.matte(Planes(y, *halves), seq=0, pts=0.0).raw.copy()
    segmenter.close()
    return found


def test_networks_and_measurements_that_are_damaged_on_disk_are_made_anew(tmp_path, notes):
    random.seed(1)
    wanted = raw(tmp_path)
    files = [*(tmp_path / "openvino").glob("*.blob"), tmp_path / "precision.json"]
    assert len(files) >= 3
    assert np.array_equal(raw(tmp_path), wanted)
    assert notes == []

    for name, damage in DAMAGES.items():
        notes.clear()
        for path in files:
            if path.exists():  # another precision may have won
                damage(path)
        found = raw(tmp_path)

        assert np.abs(found - wanted).mean() < 0.01, name  # another precision may win this time
        assert notes, name


def test_a_network_on_disk_that_answers_wrongly_is_made_anew(tmp_path, notes):
    """Whole, by its checksum, and yet not what it should be."""
    weights = ROOT / "segmentation" / "weights"
    engine = OpenVinoEngine(weights / "bisenet-small.xml", cache_dir=tmp_path)
    engine.prepare(160, 288)
    (kept,) = (tmp_path / "openvino").glob("*.blob")
    other = OpenVinoEngine(_inverted(tmp_path), examine=False)
    other.prepare(160, 288)
    Store(tmp_path / "openvino", "").put(
        kept.name, other._made[1, 7, 160, 288][0].export_model().getvalue()
    )

    again = OpenVinoEngine(weights / "bisenet-small.xml", cache_dir=tmp_path)
    again.prepare(160, 288)

    assert "it answers wrongly" in notes[0]
    x = np.zeros((1, 7, 160, 288), np.float32)
    assert np.array_equal(again.infer(x), engine.infer(x))


def _inverted(folder: Path) -> Path:
    from tests.segmentation.test_answers import SPOILS, spoiled

    return spoiled(folder / "inverted.xml", SPOILS["inverted"])


def test_a_network_is_taken_from_disk_unless_its_file_changed(tmp_path, monkeypatch):
    for suffix in (".xml", ".bin"):
        shutil.copy(ROOT / f"segmentation/weights/bisenet-small{suffix}", tmp_path)
    compiled = []
    real = OpenVinoEngine._compile
    monkeypatch.setattr(
        OpenVinoEngine, "_compile", lambda self, graph: compiled.append(1) or real(self, graph)
    )

    def opened() -> int:
        compiled.clear()
        engine = OpenVinoEngine(tmp_path / "bisenet-small.xml", cache_dir=tmp_path)
        engine.prepare(160, 288)
        engine.close()
        return len(compiled)

    first, second = opened(), opened()
    with (tmp_path / "bisenet-small.xml").open("a") as file:
        file.write("\n")

    assert (first, second, opened()) == (1, 0, 1)


def test_without_home_or_a_place_beside_the_sources_the_second_start_compiles_nothing(tmp_path):
    """As a read-only installation run by a service's user; the temporary folder is its own."""
    program = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from segmentation import jit, store
store.tempfile.tempdir = {str(tmp_path)!r}
fallbacks = store.fallbacks
store.fallbacks = lambda: fallbacks()[-1:]
real = jit.os.access
jit.os.access = lambda path, how: "__pycache__" not in str(path) and real(path, how)
import importlib.util
spec = importlib.util.spec_from_file_location("loop", {str(tmp_path / "loop.py")!r})
module = sys.modules["loop"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(sum(module.double.stats.cache_hits.values()), module.double(4))
"""
    (tmp_path / "loop.py").write_text(LOOP.format(times=2))
    environ = {k: v for k, v in os.environ.items() if k not in ("HOME", "NUMBA_CACHE_DIR")}
    environ |= {"HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    (tmp_path / "__pycache__").mkdir()

    said = [
        subprocess.run(
            [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]

    assert said == ["0 8\n", "1 8\n"]
    assert (tmp_path / f"vcam-cache-{os.getuid()}").stat().st_mode & 0o77 == 0


def test_weights_that_are_cut_short_on_disk_do_not_end_the_process_that_uses_them(tmp_path):
    weights = ROOT / "segmentation" / "weights" / "bisenet-small-int8"
    # In a process of its own: what went wrong here was SIGBUS.
    for suffix in (".xml", ".bin"):
        shutil.copy(weights.with_suffix(suffix), tmp_path / f"net{suffix}")
    program = """
import os, sys
import numpy as np
from segmentation.planes import Planes
from segmentation.segmenter import Segmenter
segmenter = Segmenter(sys.argv[1] + ".xml", quality="low")
luma, chroma = np.zeros((144, 256), np.uint8), np.zeros((72, 128), np.uint8)
os.truncate(sys.argv[1] + ".bin", 70_000)
segmenter.prepare(144, 256)
segmenter.matte(Planes(luma, chroma, chroma), seq=0, pts=0.0)
"""

    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "net")], check=False)

    assert done.returncode == 0
