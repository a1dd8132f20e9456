"""Writes the C function that Python calls for a loop, by the types in its signature."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from numba import types

HEAD: Final = Path(__file__).with_name("entries.c")
NUMBERS: Final = {"uint8": 2, "uint16": 4, "uint32": 6, "float32": 11, "float64": 12}  # of NumPy
BYTES: Final = {"uint8": 1, "uint16": 2, "uint32": 4, "float32": 4, "float64": 8}


@dataclass(frozen=True)
class Entry:
    """A loop that Python calls."""

    name: str  # as Python finds it
    symbol: str  # of its machine code
    names: tuple[str, ...]  # of its arguments
    signature: Any  # Numba's


class Writer:
    """The C function of one entry, line after line."""

    def __init__(self, entry: Entry) -> None:
        self.lines: list[str] = []
        self.passed = ["&out", "&why"]
        self.types = ["int64_t *", "void **"]
        self.count = 0
        self.entry = entry

    def take(self, kind: Any, given: str, name: str) -> None:
        """Take what `given` is, of a type of Numba's, from Python."""
        self.count += 1
        to = f"x{self.count}"
        if isinstance(kind, types.Array):
            self._array(kind, given, name, to)
        elif isinstance(kind, types.BaseTuple):
            self.lines += [f"PyObject *{to}[{len(kind)}];"]
            self._check(f'take_tuple({given}, {len(kind)}, "{name}", {to})')
            for i, inner in enumerate(kind):
                self.take(inner, f"{to}[{i}]", f"{name}[{i}]")
        else:
            self._number(kind, given, name, to)

    def _array(self, kind: Any, given: str, name: str, to: str) -> None:
        dtype, n = str(kind.dtype), kind.ndim
        if not kind.aligned or kind.layout not in "CA":
            raise TypeError(f"{kind} is nothing that a loop of ours takes")
        flags = ["ALIGNED", *["CONTIGUOUS"] * (kind.layout == "C"), *["WRITEABLE"] * kind.mutable]
        said = ["a", *["writable"] * kind.mutable, *["contiguous"] * (kind.layout == "C"), dtype]
        wanted = f'{NUMBERS[dtype]}, {n}, {" | ".join(flags)}, "{" ".join(said)} array of {n}"'
        self.lines += [f"static const Wanted {to}_wanted = {{{wanted}}};", f"Array {to};"]
        self._check(f'take_array({given}, &{to}_wanted, "{name}", &{to})')
        self.passed += ["NULL", "NULL", f"{to}.items", str(BYTES[dtype]), f"{to}.data"]
        self.passed += [f"{to}.{each}[{i}]" for each in ("shape", "strides") for i in range(n)]
        self.types += ["void *", "void *", "int64_t", "int64_t", "void *", *["int64_t"] * 2 * n]

    def _number(self, kind: Any, given: str, name: str, to: str) -> None:
        taker, held, passed = {
            "int64": ("take_int", "int64_t", "int64_t"),
            "bool": ("take_bool", "int8_t", "int8_t"),
            "float32": ("take_float", "double", "float"),
            "float64": ("take_float", "double", "double"),
        }[str(kind)]
        self.lines += [f"{held} {to};"]
        self._check(f'{taker}({given}, "{name}", &{to})')
        self.passed.append(f"({passed}){to}")
        self.types.append(passed)

    def _check(self, call: str) -> None:
        self.lines += [f"if ({call}) return NULL;"]

    def text(self) -> str:
        """Return the whole function."""
        entry = self.entry
        short = entry.name.rpartition(".")[2]
        for i, (name, kind) in enumerate(zip(entry.names, entry.signature.args, strict=True)):
            self.take(kind, f"given[{i}]", f"{short}: {name}")
        made = {"int64": "PyLong_FromLongLong(out)", "none": "(Py_IncRef(Py_None), Py_None)"}
        return (
            "\n    ".join(
                [
                    f"extern int32_t {entry.symbol}({', '.join(self.types)});\n"
                    f"static PyObject *call_{entry.symbol}(PyObject *self, PyObject *const *given,"
                    " Py_ssize_t n) {",
                    "int64_t out = 0; void *why = NULL; (void)self;",
                    f'if (count(n, {len(entry.names)}, "{short}")) return NULL;',
                    *self.lines,
                    "PyThreadState *state = PyEval_SaveThread();",
                    f"int32_t status = {entry.symbol}({', '.join(self.passed)});",
                    "PyEval_RestoreThread(state);",
                    f'if (status) return failed("{short}");',
                    f"return {made[str(entry.signature.return_type)]};",
                ]
            )
            + "\n}\n"
        )


def source(entries: list[Entry]) -> str:
    """Return the C file for such loops."""
    return "\n".join([HEAD.read_text(), *_functions(entries)])


def _functions(entries: list[Entry]) -> Iterator[str]:
    yield from (Writer(entry).text() for entry in entries)
    yield "static PyMethodDef methods[] = {"
    for entry in entries:
        call = f"(PyCFunction)(void (*)(void))call_{entry.symbol}"
        yield f'    {{"{entry.name}", {call}, METH_FASTCALL, NULL}},'
    yield "    {NULL, NULL, 0, NULL}};"
    yield 'static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "loops",'
    yield "    .m_size = -1, .m_methods = methods};\n"
