"""Compiles the loops over pixels: `python -m vcam.loops.ship`.

It takes Numba, gcc and Python's headers. `segmentation.ahead` gets a file for each generation of
processors, and the card, and says what becomes of them. Where nothing but comments or plain
versions changed, only the card is written. The same tools make the same bytes.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from segmentation import ahead, jit
from vcam.foreign_text import Parser, say
from vcam.loops import entries

# Every file of loops. Those of one may call one another, and none of another file.
SOURCES: Final = (
    "segmentation.kernels",
    "vcam.compose.kernels",
    "vcam.compose.light.loops",
    "vcam.compose.light.small",
    "vcam.media.tables",
)
HERE: Final = Path(__file__).parent
TRIPLE: Final = "x86_64-unknown-linux-gnu"
COMPILER: Final = (
    "gcc",
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-O2",
    "-march=x86-64",
    "-fPIC",
)
# No copy of the C library's functions, no version of it, and no names but the module's own.
LINKED: Final = (
    *("-shared", "-nostdlib", "-s", "-fvisibility=hidden"),
    *("-fno-ident", "-fno-stack-protector", "-fcf-protection=none"),
    "-Wl,--build-id=none,--hash-style=gnu,-z,now,-z,relro,-z,noexecstack,-z,noseparate-code",
)
NEEDED: Final = re.compile(r"_?Py\w+|malloc|free|mem(cpy|move|set)")


def loaded() -> list[ModuleType]:
    """Return the modules of `SOURCES`."""
    return [importlib.import_module(name) for name in SOURCES]


def called_by_python(module: ModuleType) -> list[str]:
    """Return the loops of a module that no other of its loops calls."""
    loops = jit.modules[module.__name__].loops
    inner = {name for loop in loops.values() for name in loop.function.__code__.co_names}
    return [name for name, loop in loops.items() if not loop.inline and name not in inner]


def code(modules: list[ModuleType]) -> str:
    """Return a hash of what is compiled: not of comments, documentation or how lines are broken."""
    parts: list[object] = [HERE.joinpath(name).read_text() for name in ("entries.c", "entries.py")]
    for module in modules:
        for loop in jit.modules[module.__name__].loops.values():
            parts += [_words(loop.function), loop.signature, loop.inline]
        for name, value in sorted(vars(module).items()):
            value = value.item() if hasattr(value, "dtype") and value.ndim == 0 else value
            if isinstance(value, (int, float)):
                parts.append((name, value))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def card(modules: list[ModuleType]) -> dict[str, Any]:
    """Return what the files are made of, and by what."""
    gcc = subprocess.run([COMPILER[0], "--version"], capture_output=True, text=True, check=True)
    tools = {name: metadata.version(name) for name in ("numba", "llvmlite")}
    return {
        "sources": {each.__name__: jit.modules[each.__name__].source for each in modules},
        "code": code(modules),
        "objects": {
            path.stem: {"bytes": path.stat().st_size, "sha256": _hash(path)}
            for path in sorted(ahead.FOLDER.glob("*.so"))
        },
        "tools": tools | {"gcc": gcc.stdout.splitlines()[0]},
    }


def make(path: Path) -> None:
    """Write a file of loops for the processor that Numba was told of when it was loaded."""
    found: list[entries.Entry] = []
    objects: list[bytes] = []
    for module in loaded():
        for name in called_by_python(module):
            symbol = f"loop_{len(found)}"
            loop = getattr(module, name)
            (made,) = loop.overloads.values()
            names = tuple(inspect.signature(loop.py_func).parameters)
            whole = f"{module.__name__}.{name}"
            found.append(entries.Entry(whole, symbol, names, made.signature))
            objects.append(machine_code(made, symbol))
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, "entries.c"), *(Path(folder, f"{i}.o") for i in range(len(objects)))]
        files[0].write_text(entries.source(found))
        for file, content in zip(files[1:], objects, strict=True):
            file.write_bytes(content)
        include = "-I" + sysconfig.get_paths()["include"]
        words = [*COMPILER, include, *LINKED, *(file.name for file in files), "-o", "made.so"]
        subprocess.run(words, cwd=folder, check=True)
        if strange := _undefined(Path(folder, "made.so")):
            raise ValueError(f"a loop asks for what nobody has: {', '.join(strange)}")
        path.write_bytes(Path(folder, "made.so").read_bytes())


def machine_code(made: Any, symbol: str) -> bytes:
    """Return an object file of what Numba made of a loop, which may lie anywhere in memory."""
    import llvmlite.binding as llvm
    from numba.core import config

    target = llvm.Target.from_triple(TRIPLE).create_target_machine(
        cpu=config.CPU_NAME, opt=3, reloc="pic", codemodel="default"
    )
    # What an exception says lies there as a pickle, with paths of whoever compiles.
    text = re.sub(
        r"^(@\.const\.picklebuf\.\S+ = .*?constant \{[^}]*\}) \{.*$",
        r"\1 zeroinitializer",
        str(made.library._final_module),
        flags=re.MULTILINE,
    )
    module = llvm.parse_assembly(text)
    module.triple = TRIPLE
    for each in (*module.functions, *module.global_variables):
        if each.name == made.fndesc.llvm_func_name:
            each.name = symbol
        elif not each.is_declaration:
            each.linkage = "internal"
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(3)))
    content: bytes = target.emit_object(module)
    return content


def make_apart(generation: str, path: Path) -> None:
    """Write a file of loops in a process of its own: Numba knows one processor in its life."""
    with tempfile.TemporaryDirectory() as cache:
        told = {"VCAM_LOOPS": "numba", "NUMBA_CACHE_DIR": cache}
        told |= {"NUMBA_CPU_NAME": generation, "NUMBA_CPU_FEATURES": "", "NUMBA_OPT": "3"}
        words = [sys.executable, "-m", "vcam.loops.ship", "--here", str(path)]
        subprocess.run(words, env=os.environ | told, check=True)


def main() -> int:
    """Write the files that are not what the sources say by now, and the card; the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument("--anew", action="store_true", help="compile whatever the card says")
    parser.add_argument("--here", type=Path, metavar="FILE", help="for this process's processor")
    options = parser.parse_args()
    if options.here:
        make(options.here)
        return 0
    modules = loaded()
    before = json.loads(ahead.CARD.read_text()) if ahead.CARD.exists() else {}
    made = card(modules)
    whole = {name: made["objects"].get(name) for name in ahead.GENERATIONS}
    if options.anew or (made["code"], whole) != (before.get("code"), before.get("objects")):
        for name in ahead.GENERATIONS:
            path = ahead.FOLDER / f"{name}.so"
            make_apart(name, path)
            say(f"{path.name}: {path.stat().st_size} bytes")
        made = card(modules)
    else:
        made["tools"] = before["tools"]
    ahead.CARD.write_text(json.dumps(made, indent=1) + "\n")
    return 0


def _words(function: Any) -> str:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    body = tree.body[0].body  # type: ignore[attr-defined]
    if ast.get_docstring(tree.body[0]) is not None:  # type: ignore[arg-type]
        del body[0]
    return ast.unparse(tree)


def _undefined(path: Path) -> list[str]:
    told = subprocess.run(
        ["nm", "--dynamic", "--undefined-only", path], capture_output=True, text=True, check=True
    )
    return [name for name in told.stdout.split()[1::2] if not NEEDED.fullmatch(name)]


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
