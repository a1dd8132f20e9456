"""Measures of the code's structure: `python -m tests.house` prints them, a test holds them.

Arrows are imports of our own modules, those inside functions and under TYPE_CHECKING too.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("vcam", "segmentation", "train")
WORDS = re.compile(r"(what|who|whom|whose|whether|how|why)\b", re.IGNORECASE)
Where = Literal["top", "function", "types"]
Function = ast.FunctionDef | ast.AsyncFunctionDef

# Folders and files from the lowest floor up: each may import those before it, none after it.
FLOORS = (
    "segmentation",
    "vcam",
    "vcam.words",
    "vcam.foreign_text",
    "vcam.errors",
    "vcam.stats",
    "vcam.system",
    "vcam.keeper",
    "vcam.frame",
    "vcam.media",
    "vcam.files",
    "vcam.settings",
    "vcam.client",
    "vcam.compose",
    "vcam.loops",
    "vcam.guard",
    "vcam.sources",
    "vcam.sinks",
    "vcam.room_view",
    "vcam.gpu",
    "vcam.matting",
    "vcam.pipeline",
    "vcam.overlay",
    "vcam.receipts",
    "vcam.doctor",
    "vcam.control",
    "vcam.running",
    "vcam.daemon",
    "vcam.tray",
    "vcam.commands",
    "vcam.cli",
    "vcam.manual",
    "vcam.__main__",
)


class Arrow(NamedTuple):
    """One module that imports another of ours."""

    source: str
    target: str
    where: Where


@dataclass(frozen=True)
class Measured:
    """The measures of the whole tree."""

    files: dict[str, int]  # in each folder
    lines: dict[str, int]  # of each module
    functions: dict[str, int]  # lines of each
    parameters: dict[str, int]  # of each function
    kernels: dict[str, int]  # parameters of each of Triton's, which takes no structures
    inside: list[Arrow]  # arrows inside functions
    up: list[Arrow]  # arrows to a higher floor
    circles: list[str]
    riddles: list[str]  # docstrings that open with what, who, whether, how or why


def module_of(path: Path) -> str:
    """The dotted name of the module at `path`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """Every module of ours, by name."""
    return {module_of(p): p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))}


@cache
def tree(name: str) -> ast.Module:
    """The syntax of a module."""
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


@cache
def arrows() -> list[Arrow]:
    """All arrows, each once."""
    return sorted({arrow for name in modules() for arrow in _arrows_of(name)})


def _arrows_of(name: str) -> Iterator[Arrow]:
    def walk(node: ast.AST, where: Where) -> Iterator[Arrow]:
        for target in _targets(node):
            if target != name:
                yield Arrow(name, target, where)
        for child in ast.iter_child_nodes(node):
            below = where
            if isinstance(child, Function):
                below = "function"
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                below = "types"
            yield from walk(child, below)

    yield from walk(tree(name), "top")


def _targets(node: ast.AST) -> Iterator[str]:
    known = modules()
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in known)
    elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module in known:
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield inner if inner in known else node.module


def floor_of(name: str) -> str:
    """The folder or file of `FLOORS` that a module stands on."""
    if not name.startswith("vcam."):
        return name.split(".")[0]
    return ".".join(name.split(".")[:2])


def up(all_arrows: list[Arrow]) -> list[Arrow]:
    """Arrows that point to a higher floor."""
    rank = {name: number for number, name in enumerate(FLOORS)}
    return [
        arrow
        for arrow in all_arrows
        if "train" not in (floor_of(arrow.source), floor_of(arrow.target))
        and rank[floor_of(arrow.target)] > rank[floor_of(arrow.source)]
    ]


def circles(all_arrows: list[Arrow]) -> list[str]:
    """Modules that import themselves through others, each circle once."""
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for arrow in all_arrows:
        graph[arrow.source].add(arrow.target)
    found, done = list[str](), set[str]()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            found.append(" → ".join((*trail[trail.index(name) :], name)))
        elif name not in done:
            for target in sorted(graph[name]):
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    return found


def _functions(name: str) -> Iterator[tuple[str, Function]]:
    def walk(node: ast.AST, trail: str) -> Iterator[tuple[str, Function]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (*Function.__args__, ast.ClassDef)):
                inner = f"{trail}.{child.name}"
                if not isinstance(child, ast.ClassDef):
                    yield inner, child
                yield from walk(child, inner)
            else:
                yield from walk(child, trail)

    yield from walk(tree(name), name)


def _documented(name: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree(name)):
        if isinstance(node, (ast.Module, ast.ClassDef, *Function.__args__)):
            text = ast.get_docstring(node)
            if text:
                yield f"{name}.{getattr(node, 'name', '')}".rstrip("."), text


def _is_kernel(node: Function) -> bool:
    return any(
        ast.unparse(each).startswith(("triton.jit", "kernel")) for each in node.decorator_list
    )


def _count(node: Function) -> int:
    names = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def measure() -> Measured:
    """Measure the tree."""
    functions = [pair for name in modules() for pair in _functions(name)]
    everything = arrows()
    return Measured(
        files=dict(Counter(str(p.parent.relative_to(ROOT)) for p in modules().values())),
        lines={name: len(p.read_text("utf-8").splitlines()) for name, p in modules().items()},
        functions={
            name: (node.end_lineno or node.lineno) - node.lineno + 1 for name, node in functions
        },
        parameters={name: _count(node) for name, node in functions if not _is_kernel(node)},
        kernels={name: _count(node) for name, node in functions if _is_kernel(node)},
        inside=[arrow for arrow in everything if arrow.where == "function"],
        up=up(everything),
        circles=circles(everything),
        riddles=[
            name for module in modules() for name, text in _documented(module) if WORDS.match(text)
        ],
    )


def walked() -> dict[str, list[str]]:
    """Files that a frame enters, and changes of settings, as `tests.walks` finds them.

    In a process of its own: what started before would not be noted.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.walks"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Print each measure and the worst of it."""
    found = measure()
    for what, sizes, most in (
        ("files in a folder", found.files, 15),
        ("lines of a file", found.lines, 500),
        ("lines of a function", found.functions, 80),
        ("parameters of a function", found.parameters, 8),
        ("parameters of a Triton kernel", found.kernels, 8),
    ):
        worst = sorted(sizes.items(), key=lambda pair: -pair[1])
        over = [f"{name} {size}" for name, size in worst if size > most]
        print(f"most {what}: {worst[0][1]} ({worst[0][0]}); over {most}: {len(over)}")
        for line in over:
            print(f"    {line}")
    for what, lines in (
        ("imports of our own modules inside functions", [" ".join(a) for a in found.inside]),
        ("arrows up", [" ".join(a) for a in found.up]),
        ("circles", found.circles),
        ("docstrings that open with what, who, whether, how or why", found.riddles),
    ):
        print(f"{what}: {len(lines)}")
        for line in lines:
            print(f"    {line}")
    for name, files in walked().items():
        print(f"files that {name} enters: {len(files)}")
        for file in files:
            print(f"    {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
