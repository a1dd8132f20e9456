"""The arrows between the rooms, and the one door to the sinks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("vcam", "segmentation", "train")
ALLOWED = {"vcam": {"vcam", "segmentation"}, "segmentation": {"segmentation"}}
ALLOWED["train"] = {"train", "segmentation"}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files() -> dict[str, Path]:
    return {module_of(p): p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))}


def imports(path: Path, *, at_top: bool = False) -> Iterator[str]:
    """Names of modules a file imports; `at_top` leaves out functions and TYPE_CHECKING blocks."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(tree.body) if at_top else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_arrows_between_the_packages_point_down():
    wrong = [
        f"{name} imports {target}"
        for name, path in files().items()
        for target in imports(path)
        if target.split(".")[0] in PACKAGES
        and target.split(".")[0] not in ALLOWED[name.split(".")[0]]
    ]

    assert not wrong


def test_no_file_imports_itself_through_others():
    known = files()
    graph = {
        name: {t for t in imports(path, at_top=True) if t in known and t != name}
        for name, path in known.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join((*trail, name))
        if name not in done:
            for target in graph[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def calls(path: Path) -> Iterator[str]:
    """Names that are called in the file at `path`, or handed to what is called."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield from (each.id for each in node.args if isinstance(each, ast.Name))
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
            {"vcam.settings.live", "vcam.daemon", "vcam.control.api", "vcam.cli", "vcam.tray.app"},
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
    found = {name for name, path in files().items() if called in set(calls(path))}

    assert found
    assert found <= callers


def test_a_view_of_the_room_travels_from_the_loop_to_the_page_and_nowhere_else():
    know = {name for name, path in files().items() if "vcam.room_view" in set(imports(path))}

    way = {"vcam.pipeline", "vcam.daemon", "vcam.control.runtime", "vcam.control.preview"}
    assert know <= way
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
    for name, path in files().items():
        if name.startswith("segmentation"):
            text = path.read_text(encoding="utf-8")
            assert "/dev/" not in text, name
            assert "config.toml" not in text, name


def test_the_program_never_uses_a_network_that_was_not_asked():
    unasked = [
        name
        for name, path in files().items()
        if name.split(".")[0] == "vcam"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword) and node.arg == "examine"
    ]

    assert unasked == []


def test_every_file_says_in_one_sentence_what_it_is_for():
    silent = [
        name
        for name, path in files().items()
        if not (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").strip()
    ]

    assert [n for n in silent if files()[n].stat().st_size > 0] == []
