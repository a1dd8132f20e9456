"""Loops that were compiled ahead: of these sources, with NumPy's bits, for no wrong argument."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from segmentation import ahead, jit, store
from tests import loops
from tests.house import ROOT
from vcam.loops import ship

HERE = ahead._runs_here() and ahead.generation(ahead._flags()) is not None
here = pytest.mark.skipif(not HERE, reason="loops are compiled ahead for Linux on x86-64")
COMMAND = "python -m vcam.loops.ship"


def test_files_are_made_of_the_sources_as_they_are():
    made = json.loads(ahead.CARD.read_text())
    sources = {each.__name__: jit.modules[each.__name__].source for each in ship.loaded()}

    assert made["sources"] == sources, COMMAND
    assert made["objects"].keys() == ahead.GENERATIONS.keys()
    for name, told in made["objects"].items():
        content = (ahead.FOLDER / f"{name}.so").read_bytes()
        assert hashlib.sha256(content).hexdigest() == told["sha256"], COMMAND
        assert len(content) < 500_000
        assert not [word for word in (b"/home", b"/root", b"/tmp", b".py") if word in content]


def test_every_file_of_loops_is_compiled_ahead():
    files = [*ROOT.glob("segmentation/**/*.py"), *ROOT.glob("vcam/**/*.py")]
    having = {file for file in files if "\n@compiled(" in file.read_text(encoding="utf-8")}
    names = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in having}

    assert names == set(ship.SOURCES)
    called = {f"{m.__name__}.{name}" for m in ship.loaded() for name in ship.called_by_python(m)}
    assert called == loops.PLAIN.keys()


@here
@pytest.mark.parametrize("generation", ahead.GENERATIONS)
@pytest.mark.parametrize("name", loops.PLAIN)
def test_loops_of_every_generation_give_the_bits_of_numpy(name, generation):
    if ahead.generation(ahead._flags()) < generation:
        pytest.skip(f"needs a processor of {generation}")
    made = ahead.opened(ahead.FOLDER / f"{generation}.so")

    for ours, theirs in zip(loops.cases(name), loops.cases(name), strict=True):
        counted = made[name](*ours[0])
        loops.PLAIN[name](*theirs[0])

        assert counted is None or counted > 0
        for mine, plain in zip(ours[1], theirs[1], strict=True):
            apart = np.abs(mine.astype(float) - plain).max()
            assert apart <= (name == "vcam.media.tables._apply_compiled")


@here
@pytest.mark.parametrize("way", ["ahead", "numba"])
def test_loops_compiled_ahead_and_by_numba_give_the_same_bits(way):
    if way == "numba":
        pytest.importorskip("numba", reason="needs the extra: pip install -e .[dev]")
    code = [sys.executable, "-m", "tests.loops"]
    environ = os.environ | {"VCAM_LOOPS": way}

    done = subprocess.run(code, env=environ, cwd=ROOT, capture_output=True, text=True, check=True)

    used, found = json.loads(done.stdout)
    assert used == [way]
    assert found == {name: loops.fingerprint(name, loops.loop(name)) for name in loops.PLAIN}


@here
def test_the_daemon_loads_no_compiler():
    code = (
        "import sys; import vcam.daemon, vcam.pipeline, vcam.compose.compositor\n"
        "import segmentation.segmenter, vcam.media.tables, vcam.sources, vcam.sinks\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "sys.exit(', '.join(loaded & {'numba', 'llvmlite'}) or 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def leaves(value: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Everything in nested tuples, the tuples too, and where it is."""
    yield path, value
    for i, inner in enumerate(value if isinstance(value, tuple) else ()):
        yield from leaves(inner, (*path, i))


def changed(value: Any, path: tuple[int, ...], to: Any) -> Any:
    if not path:
        return to
    return tuple(changed(v, path[1:], to) if i == path[0] else v for i, v in enumerate(value))


def wrong(value: Any) -> list[Any]:
    """Values that no loop takes for an argument."""
    if isinstance(value, tuple):
        return [list(value), value[:-1], (*value, value[-1]), np.zeros(len(value)), None, 7]
    if isinstance(value, np.ndarray):
        other = np.int8 if value.dtype != np.int8 else np.uint8
        odd = np.zeros(value.nbytes + 1, np.uint8)[1:].view(value.dtype).reshape(value.shape)
        misaligned = [odd] if value.itemsize > 1 else []
        swapped = [value.astype(value.dtype.newbyteorder(">"))] if value.itemsize > 1 else []
        made = [value.astype(other), value[None], value[..., 0], value.tolist(), value.tobytes()]
        return [*made, *misaligned, *swapped, value.astype(object), None, 1.5]
    if isinstance(value, bool):
        return [None, 2, np.zeros(3, bool), "true"]
    return [None, "7", (7,), np.zeros(3), *([1 << 70, 1.5] if isinstance(value, int) else [])]


@here
@pytest.mark.parametrize("name", loops.PLAIN)
def test_a_wrong_argument_is_a_type_error(name):
    run, refused = loops.loop(name), 0
    arguments, filled = next(loops.cases(name))
    before = [each.copy() for each in filled]
    for path, value in [*leaves(arguments)][1:]:
        for to in wrong(value):
            with pytest.raises(TypeError, match=name.rpartition(".")[2]):
                run(*changed(arguments, path, to))
            refused += 1
    for count in (*range(len(arguments)), len(arguments) + 1):
        with pytest.raises(TypeError):
            run(*(arguments * 2)[:count])

    assert refused >= min(30, 7 * len(arguments))
    assert all(np.array_equal(a, b) for a, b in zip(before, filled, strict=True))


@here
def test_what_is_filled_must_be_writable_and_rows_contiguous():
    name = "vcam.compose.kernels._split_yuyv"
    (data, *out), _ = next(loops.cases(name))
    locked = out[0].copy()
    locked.setflags(write=False)

    loops.loop(name)(data[:], *out)
    data.setflags(write=False)
    loops.loop(name)(data, *out)
    with pytest.raises(TypeError, match=r"y is an array .* expected a writable contiguous uint8"):
        loops.loop(name)(data, locked, *out[1:])
    with pytest.raises(TypeError, match="u is an array"):
        loops.loop(name)(data, out[0], np.zeros(out[1].size * 2, np.uint8)[::2], out[2])


@here
def test_arrays_that_do_not_fit_one_another_are_refused_where_a_loop_notices():
    name = "vcam.compose.kernels._compose"
    arguments, _ = next(loops.cases(name))

    with pytest.raises(ValueError, match="_compose"):
        loops.loop(name)(*arguments[:-1], arguments[-1][:100])


@pytest.mark.parametrize(
    ("lacking", "suits"),
    [
        ((), "x86-64-v4"),
        (("avx512bw",), "x86-64-v3"),
        (("avx2",), "x86-64-v2"),
        (("sse4_2",), None),
        (("avx512f", "fma"), "x86-64-v2"),
    ],
    ids=str,
)
def test_a_processor_gets_the_youngest_file_that_it_can_run(lacking, suits):
    every = {flag for flags in ahead.GENERATIONS.values() for flag in flags}

    assert ahead.generation(frozenset(every - set(lacking))) == suits


@here
def test_a_damaged_file_is_not_opened(tmp_path, monkeypatch, caplog):
    assert ahead.loops.__wrapped__().keys() >= loops.PLAIN.keys()
    shutil.copytree(ahead.FOLDER, tmp_path / "compiled")
    for file in (tmp_path / "compiled").glob("*.so"):
        os.truncate(file, file.stat().st_size // 2)
    monkeypatch.setattr(ahead, "FOLDER", tmp_path / "compiled")

    assert ahead.loops.__wrapped__() == {}
    assert "not those that its card tells of" in caplog.text


@here
@pytest.mark.parametrize(
    "damaged",
    ["", "null", "[]", '{"sources": {', '{"sources": {}, "objects": {"x86-64-v4": 7}}', None],
)
def test_a_damaged_card_costs_the_loops_and_not_the_program(damaged, tmp_path, monkeypatch):
    if damaged is not None:
        (tmp_path / "card.json").write_text(damaged)
    monkeypatch.setattr(ahead, "CARD", tmp_path / "card.json")
    monkeypatch.setattr(ahead, "_card", ahead._card.__wrapped__)
    monkeypatch.setattr(ahead, "faults", [])
    monkeypatch.setattr(ahead, "generation", lambda flags: "x86-64-v4")
    monkeypatch.setattr(ahead, "loops", ahead.loops.__wrapped__)
    monkeypatch.setattr(jit, "CHOSEN", "")
    monkeypatch.setattr(jit, "_has_numba", lambda: False)
    monkeypatch.setattr(jit, "modules", {})
    monkeypatch.setattr(store, "notes", [])

    assert ahead.loops() == {}
    assert ahead.entries("tests.vcam.test_ahead", "of this") is None
    jit.compiled("f8(f8)")(loops.loop)

    assert ahead.faults
    assert store.notes[0].startswith("There are no compiled pixel loops whole")


@here
def test_loops_take_no_module_of_somebody_elses_name():
    assert "loops" not in sys.modules


@here
@pytest.mark.parametrize("what", ["the file", "a number of another file"])
def test_loops_of_a_changed_source_are_not_used(what):
    code = f"""
import sys
import segmentation.constants
from pathlib import Path
from segmentation import ahead, jit
what = {what!r}
if what == "the file":
    read = Path.read_bytes
    Path.read_bytes = lambda self: read(self) + (b"#" if self.name == "kernels.py" else b"")
else:
    segmentation.constants.LUMA_SPAN += 1
import segmentation.kernels, vcam.media.tables
print(jit.how("segmentation.kernels"), jit.how("vcam.media.tables"))
print(segmentation.kernels.smooth is segmentation.kernels._smooth_plain, "numba" in sys.modules)
"""
    environ = os.environ | {"VCAM_LOOPS": "ahead"}

    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=ROOT, capture_output=True, text=True
    )

    assert done.stdout.split() == ["plain", "ahead", "True", "False"], done.stderr


@here
@pytest.mark.slow
def test_the_same_tools_make_the_same_bytes(tmp_path):
    made = json.loads(ahead.CARD.read_text())
    if made["tools"] != ship.card(ship.loaded())["tools"]:
        pytest.skip(f"needs {made['tools']}")
    for name in ahead.GENERATIONS:
        path = tmp_path / f"{random.random()}.so"

        ship.make_apart(name, path)

        assert hashlib.sha256(path.read_bytes()).hexdigest() == made["objects"][name]["sha256"]
