# ruff: noqa: E402
"""nvJPEG by its functions' arguments, against a library of the same functions that needs no GPU."""

from __future__ import annotations

import ctypes
import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="needs the extra: pip install -e .[cuda]")
pytest.importorskip("safetensors", reason="needs the extra: pip install -e .[cuda]")

from vcam.commands import bench_gpu
from vcam.gpu import nvjpeg
from vcam.sources.decode import MjpegDecoder, open_turbo

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a compiler: apt install gcc"),
    pytest.mark.skipif(open_turbo() is None, reason="needs apt install libturbojpeg0"),
]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A library that refuses wrong arguments, and decodes with libjpeg-turbo."""
    made = tmp_path_factory.mktemp("nvjpeg") / "libnvjpeg.so"
    source = Path(__file__).with_name("nvjpeg.c")
    flags = ("-shared", "-fPIC", "-Wall", "-Werror", "-O1")
    subprocess.run(["cc", *flags, "-o", str(made), str(source), "-ldl"], check=True)
    return ctypes.CDLL(str(made))


@pytest.mark.parametrize("subsampling", ["4:2:2", "4:2:0"])
def test_planes_are_those_of_the_processors_decoder(library, subsampling):
    decoder = nvjpeg.NvDecoder(library, CPU)
    data = jpeg(96, 64, subsampling)
    out = torch.full((96 * 64 * 2 + 5,), 7, dtype=torch.uint8)
    planes = MjpegDecoder().decode(data)

    packing = decoder.decode(data, out)

    assert packing.full_range == planes.full_range
    for place, plane in zip((packing.y, packing.u, packing.v), planes.each, strict=True):
        assert np.array_equal(place.of(out).numpy(), plane)
    assert (out[packing.size :] == 7).all()
    decoder.close()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda: jpeg(96, 64, "4:2:0")[:900], id="torn"),
        pytest.param(lambda: b"no JPEG", id="none"),
        pytest.param(lambda: jpeg(96, 64, "4:4:4"), id="whole chroma"),
        pytest.param(lambda: jpeg(96, 64, None), id="grey"),
        pytest.param(lambda: jpeg(95, 64, "4:2:0"), id="odd"),
        pytest.param(lambda: jpeg(128, 96, "4:2:0"), id="too large"),
    ],
)
def test_what_it_has_no_answer_for_is_left_to_the_processor(library, data):
    decoder = nvjpeg.NvDecoder(library, CPU)

    assert decoder.decode(data(), torch.zeros(96 * 64 * 2, dtype=torch.uint8)) is None

    decoder.close()


def test_everything_opened_is_closed_once(library):
    opened = ctypes.c_int.in_dll(library, "opened")
    before = opened.value
    decoder = nvjpeg.NvDecoder(library, CPU)
    assert opened.value == before + 2

    decoder.close()
    decoder.close()

    assert opened.value == before


def test_a_library_that_does_not_work_here_says_so(library, monkeypatch):
    monkeypatch.setattr(nvjpeg, "STRICT", 1)

    with pytest.raises(RuntimeError, match="status 2"):
        nvjpeg.NvDecoder(library, CPU)


def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "99.1")

    with pytest.raises(RuntimeError, match=r"libnvjpeg\.so\.99 is not installed"):
        nvjpeg.open_decoder(CPU)


def test_the_benchmark_compares_both_decoders(library, monkeypatch):
    data = [jpeg(96, 64, "4:2:2", seed) for seed in range(2)]
    monkeypatch.setattr(nvjpeg, "open_decoder", lambda device: nvjpeg.NvDecoder(library, device))

    report = bench_gpu.jpeg(data, CPU)

    assert report["nvjpeg_ms"] > 0 < report["host_ms"]
    assert (report["apart"], report["takes_torn"]) == (0, False)


def jpeg(width, height, subsampling, seed=0):
    """A picture of soft colours; grey without `subsampling`."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    if subsampling is None:
        image.convert("L").save(file, "JPEG", quality=95)
    else:
        image.save(file, "JPEG", quality=95, subsampling=subsampling)
    return file.getvalue()
