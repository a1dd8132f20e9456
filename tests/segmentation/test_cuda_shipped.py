# ruff: noqa: E402
"""Kernels as they are shipped: up to date, all that a frame asks for, and called as they expect."""

from __future__ import annotations

import ctypes
import struct
from importlib.util import module_from_spec, spec_from_file_location
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install -e .[cuda]")
pytest.importorskip("safetensors", reason="needs the extra: pip install -e .[cuda]")

from vcam.gpu.kernels import common, language, ship, shipped

REGISTERS, FRAME, PARAMETER = 0x2F, 0x11, 0x17  # what a cubin says of its kernel


@pytest.fixture(scope="module")
def wanted():
    return ship.wanted()


def info(code: bytes, name: str) -> dict[int, list[bytes]]:
    """The attributes that a cubin gives its kernel, and the GPU what it needs."""
    start, count, named = (
        *struct.unpack_from("<Q", code, 40),
        *struct.unpack_from("<HH", code, 60),
    )
    heads = [struct.unpack_from("<IIQQQQ", code, start + 64 * i) for i in range(count)]
    names = code[heads[named][4] :]
    found: dict[int, list[bytes]] = {}
    for at, _, _, _, offset, size in heads:
        section = names[at : names.index(b"\0", at)].decode()
        if section not in (".nv.info", f".nv.info.{name}"):
            continue
        while size > 0:
            kind, attribute, length = struct.unpack_from("<BBH", code, offset)
            length = length if kind == 4 else 0
            found.setdefault(attribute, []).append(code[offset + 4 : offset + 4 + length])
            offset, size = offset + 4 + length, size - 4 - length
    return found


@pytest.mark.parametrize("capability", shipped.CAPABILITIES)
def test_all_that_a_frame_asks_for_is_shipped_as_its_source_is_now(wanted, capability):
    known = shipped.shelf(capability).kernels

    stale = sorted(
        variant.key
        for variant, kernel in wanted.items()
        if variant.key not in known or known[variant.key].source != shipped.digest(kernel.fn)
    )
    assert (stale[:3], len(stale)) == ([], 0), "python -m vcam.gpu.kernels.ship"
    assert set(known) == {variant.key for variant in wanted}
    assert len({variant.name for variant in wanted}) == 31


@pytest.mark.parametrize("capability", shipped.CAPABILITIES)
def test_a_shipped_kernel_takes_what_it_is_given_and_needs_no_stack(wanted, capability):
    shelf = shipped.shelf(capability)

    for variant in wanted:
        compiled = shelf.kernels[variant.key]
        code = shelf.code_of(compiled)
        said = info(code, variant.name)
        sizes = {}
        for each in said[PARAMETER]:
            _, place, _, flags = struct.unpack("<IHHI", each)
            sizes[place] = flags >> 18
        given = [4 if kind in ("i32", "fp32") else 8 for kind in variant.types]
        assert [sizes[i] for i in range(len(sizes))] == [*given, 8, 8], variant.key
        # The driver reserves a stack for every thread that the GPU can hold at once.
        assert struct.unpack("<II", said[FRAME][0])[1] == 0, variant.key
        assert 0 < struct.unpack("<II", said[REGISTERS][0])[1] * compiled.threads <= 65536
        assert compiled.threads == 32 * variant.warps
        assert b".py" not in code, "a path of whoever compiled it"


def test_the_files_are_small():
    assert sum(path.stat().st_size for path in shipped.FOLDER.iterdir()) < 4e6
    assert len(list(shipped.FOLDER.iterdir())) == len(shipped.CAPABILITIES)


@pytest.mark.parametrize(
    ("capability", "file"),
    [((7, 5), 75), ((8, 0), 80), ((8, 7), 86), ((8, 9), 89), ((9, 0), 90), ((12, 0), 120),
     ((7, 0), None), ((10, 3), None), ((12, 1), None), ((13, 0), None)],
)  # fmt: skip
def test_a_gpu_takes_the_kernels_of_its_generation(capability, file):
    assert shipped.suits(*capability) == file


TEXT = """
MOST = 3

def helper(x):
    return x * 2

def made(x):
    '''Says.'''
    return helper(x) + MOST  # why
"""


@pytest.mark.parametrize(
    ("old", "new", "another"),
    [
        ("Says", "Tells", False),
        ("# why", "# because", False),
        ("helper(x) ", "helper(\n        x\n    ) ", False),
        ("+", "-", True),
        ("x * 2", "x * 4", True),
        ("MOST = 3", "MOST = 4", True),
    ],
)
def test_a_kernel_is_another_if_its_code_a_callee_or_a_constant_is(tmp_path, old, new, another):
    digests = []
    for name, text in (("before", TEXT), ("after", TEXT.replace(old, new))):
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        spec = spec_from_file_location(f"{shipped.PACKAGE}.{name}", path)
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        module.__name__ = module.made.__module__ = module.helper.__module__ = shipped.PACKAGE
        digests.append(shipped.digest(module.made))

    assert (digests[0] != digests[1]) is another


def test_a_file_that_is_damaged_or_missing_holds_nothing(tmp_path):
    whole = shipped.path_for(90).read_bytes()
    path = tmp_path / "sm_90.xz"

    for content in (whole[:-100], b"", b"nonsense", whole[:2000] + b"\0" + whole[2001:]):
        path.write_bytes(content)
        assert shipped.Shelf.read(path).kernels == {}
    assert shipped.Shelf.read(tmp_path / "none.xz").kernels == {}
    path.write_bytes(whole)
    assert len(shipped.Shelf.read(path).kernels) > 50


class Driver:
    """In the place of the driver: reads what a launch hands over, as the driver would."""

    def __init__(self, types, refuses=False):
        self.types, self.refuses, self.launched = types, refuses, []

    def cuModuleLoadData(self, module, code):
        self.code = code
        return 200 * self.refuses

    def cuModuleGetFunction(self, function, module, name):
        self.name = name
        return 0

    def cuLaunchKernelEx(self, config, function, pointers, extra):
        read = {"i32": ctypes.c_int32, "fp32": ctypes.c_float}
        values = [
            ctypes.cast(at, ctypes.POINTER(read.get(kind, ctypes.c_uint64)))[0]
            for at, kind in zip(pointers, (*self.types, "none", "none"), strict=True)
        ]
        made = config._obj
        self.launched.append((values, made.grid_x, made.block_x, made.shared, made.stream))
        return 0


def on(monkeypatch, driver):
    """The driver, and a GPU that torch knows of."""
    monkeypatch.setattr(shipped.ctypes, "CDLL", lambda name: driver)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=77))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    shipped._loaded.cache_clear()


def test_a_launch_hands_over_numbers_and_places_as_the_driver_reads_them(monkeypatch, wanted):
    variant, kernel = next((v, k) for v, k in wanted.items() if v.name == "_lines")
    driver = Driver(variant.types)
    on(monkeypatch, driver)
    pictures = [torch.zeros(4) for _ in range(3)]

    found = shipped.find(kernel.fn, variant.key, torch.device("cuda", 0))
    found(5, [*pictures, 720, 1280, 0.5], variant.types)
    shipped._loaded.cache_clear()

    places = [picture.data_ptr() for picture in pictures]
    assert driver.launched == [([*places, 720, 1280, 0.5, 0, 0], 5, 128, 0, 77)]
    assert driver.name == b"_lines"
    assert driver.code[:4] == b"\x7fELF"


def test_what_the_driver_refuses_or_is_not_shipped_is_left_to_triton(monkeypatch, wanted):
    variant, kernel = next((v, k) for v, k in wanted.items() if v.name == "_lines")
    device = torch.device("cuda", 0)

    on(monkeypatch, Driver(variant.types, refuses=True))
    assert shipped.find(kernel.fn, variant.key, device) is None

    on(monkeypatch, Driver(variant.types))
    assert shipped.find(kernel.fn, f"{variant.key} MORE=1", device) is None
    assert shipped.find(language.kernel(common._ramp).fn, variant.key, device) is None
    assert shipped.find(kernel.fn, variant.key, device) is not None
    shipped._loaded.cache_clear()
