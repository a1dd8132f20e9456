"""The arrows between the rooms, their sizes, and the one door to the sinks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import house
from tests.house import ROOT, arrows, modules

ALLOWED = {"vcam": {"vcam", "segmentation"}, "segmentation": {"segmentation"}}
ALLOWED["train"] = {"train", "segmentation"}

# Where a function may import modules of ours: what it opens is slow to load or not on every system.
OPENERS = {
    "segmentation.engines",  # OpenVINO or torch
    "vcam.commands",  # a command, answered before anything heavy is loaded
    "train.__main__",  # torch
    "vcam.daemon",
    "vcam.gpu.plan",  # Triton
    "vcam.matting",  # OpenVINO or torch
    "vcam.media.shown",  # Numba
    "vcam.sinks",
    "vcam.sources",
    "vcam.tray.app",  # another panel on each system
}

# The picture's way through the GPU, whose kernels take no structures.
GPU = ("vcam.gpu", "vcam.commands.bench_gpu", "segmentation.engines.cuda")


def test_arrows_between_the_packages_point_down():
    wrong = [
        f"{source} imports {target}"
        for source, target, _ in arrows()
        if target.split(".")[0] not in ALLOWED[source.split(".")[0]]
    ]

    assert not wrong


def test_arrows_inside_vcam_point_down():
    standing = {house.floor_of(name) for name in modules()} - {"train"}

    assert standing == set(house.FLOORS)
    assert house.up(arrows()) == []


def test_no_file_imports_itself_through_others():
    assert house.circles(arrows()) == []


def test_functions_import_modules_of_ours_in_named_places_alone():
    inside = [arrow for arrow in arrows() if arrow.where == "function"]

    def opener(source: str) -> str:
        return next((name for name in OPENERS if f"{source}.".startswith(f"{name}.")), source)

    assert {opener(arrow.source) for arrow in inside} == OPENERS
    assert len(inside) <= 27


@pytest.mark.parametrize(
    ("measure", "most"), [("files", 15), ("lines", 500), ("functions", 80), ("parameters", 8)]
)
def test_no_room_is_too_large(measure, most):
    sizes = getattr(house.measure(), measure)

    assert {name: size for name, size in sizes.items() if size > most and not _on_gpu(name)} == {}


@pytest.mark.parametrize(("measure", "most"), [("lines", 600), ("parameters", 10)])
def test_no_room_on_the_gpu_is_too_large(measure, most):
    sizes = getattr(house.measure(), measure)

    assert {name: size for name, size in sizes.items() if size > most and _on_gpu(name)} == {}


def _on_gpu(name: str) -> bool:
    return any(f"{name}.".startswith(f"{place}.") for place in GPU)


def test_a_frame_and_a_change_of_settings_enter_few_files():
    entered = house.walked()
    most = {"a frame": 33, "a slider": 6, "a background": 8, "a model": 8}

    # Beyond the door, which asks for the same five files whatever is wanted.
    beyond = {
        name: [file for file in files if not file.startswith("vcam/control/")]
        for name, files in entered.items()
    }
    assert entered.keys() == most.keys()
    assert {name: files for name, files in beyond.items() if len(files) > most[name]} == {}
    assert all(len(entered[name]) - len(beyond[name]) <= 5 for name in entered)


def test_docstrings_name_what_they_describe():
    assert house.measure().riddles == []


def calls(path: Path) -> Iterator[str]:
    """Names that are called in the file at `path`, or handed to what is called."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield from (each.id for each in node.args if isinstance(each, ast.Name))
            handed = [each for each in node.args if isinstance(each, ast.Attribute)]
            yield from (each.attr for each in handed if ast.unparse(each.value) != "self")
            function = node.func
            if isinstance(function, ast.Name):
                yield function.id
            elif isinstance(function, ast.Attribute):
                yield function.attr


@pytest.mark.parametrize(
    ("called", "callers"),
    [
        ("SafeFrame", {"vcam.compose.compositor", "vcam.compose.card", "vcam.frame"}),
        ("reveal", {"vcam.pipeline", "vcam.commands.render"}),
        ("as_revealed", {"vcam.pipeline"}),
        ("Revealed", {"vcam.settings.live"}),
        (
            "show_room",
            {
                "vcam.settings.live",
                "vcam.daemon",
                "vcam.control.api",
                "vcam.commands.ask",
                "vcam.tray.wishes",
            },
        ),
        ("RoomView", {"vcam.room_view"}),
        ("jpeg_of_room", {"vcam.control.api"}),
        (
            "compose",
            {
                "vcam.pipeline",
                "vcam.commands.render",
                "vcam.matting",
                "vcam.commands.bench",
                "vcam.compose.compositor",
            },
        ),
    ],
)
def test_only_the_makers_make_what_others_may_see(called, callers):
    found = {name for name, path in modules().items() if called in set(calls(path))}

    assert found == callers


def test_a_view_of_the_room_travels_from_the_loop_to_the_page_and_nowhere_else():
    know = {source for source, target, _ in arrows() if target == "vcam.room_view"}

    assert know == {"vcam.pipeline", "vcam.running", "vcam.control.runtime", "vcam.control.preview"}
    text = (ROOT / "vcam" / "room_view.py").read_text(encoding="utf-8")
    assert not {"SafeFrame", "again"} & set(calls(ROOT / "vcam" / "room_view.py"))
    assert "vcam.sinks" not in text


def test_every_sink_checks_what_it_is_given():
    folder = ROOT / "vcam" / "sinks"
    writers = {p.stem: p for p in folder.glob("*.py") if "def write(" in p.read_text()}
    sinks = writers.keys() - {"base", "outlet"}  # the contract, and what hands frames to all sinks

    assert sinks == {"file", "obs", "pipewire", "v4l2loopback"}
    assert {name for name in sinks if "check" not in set(calls(writers[name]))} == set()


def test_segmentation_opens_no_device_and_reads_no_settings():
    for name, path in modules().items():
        if name.startswith("segmentation"):
            text = path.read_text(encoding="utf-8")
            assert "/dev/" not in text, name
            assert "config.toml" not in text, name


def test_the_program_never_uses_a_network_that_was_not_asked():
    unasked = [
        name
        for name, path in modules().items()
        if name.split(".")[0] == "vcam"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword) and node.arg == "examine"
    ]

    assert unasked == []


def test_every_file_says_in_one_sentence_what_it_is_for():
    silent = [
        name
        for name, path in modules().items()
        if not (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").strip()
    ]

    assert [n for n in silent if modules()[n].stat().st_size > 0] == []
