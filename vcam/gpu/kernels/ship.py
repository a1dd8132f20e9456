"""Compiles the kernels for every kind of GPU: `python -m vcam.gpu.kernels.ship`, with Triton.

No GPU is needed. `shipped` says what becomes of the files.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from segmentation.bisenet import BiSeNet
from segmentation.engines import networks
from segmentation.engines.weights_file import fold
from vcam.compose.scene import ALONE, Blur, Look, Scene
from vcam.foreign_text import Parser, say
from vcam.gpu import torch_matte
from vcam.gpu.exchange import Exchange
from vcam.gpu.kernels import shipped
from vcam.gpu.kernels.language import Kernel, Variant
from vcam.gpu.packing import Packing
from vcam.gpu.plan import STAGES, Plan
from vcam.gpu.rig import Buffers, Pinned, Rig

META: Final = torch.device("meta")
OUTPUT: Final = 1280, 720
# Frames that are halved never, once and twice on their way to the network, and that fit the output
# as they are, enlarged and shrunk.
SIZES: Final = ((1280, 720), (640, 480), (1920, 1080), (3840, 2160))
LOOKS: Final = tuple(
    Look(mirror=mirror, decontaminate=decontaminate, light_wrap=0.7 * light)
    for mirror, decontaminate, light in itertools.product((False, True), repeat=3)
)
MOST_SHARED: Final = 48 << 10  # bytes of shared memory that a block has without asking
ALIGNED: Final = [["tt.divisibility", 16]]


def packings(width: int, height: int) -> list[Packing]:
    """Return every layout that a frame of a camera may have."""
    chromas = (height // 2, width // 2), (height, width // 2)
    return [Packing.yuyv(height, width), Packing.nv12(height, width)] + [
        Packing.planar((height, width), chroma, full_range=full)
        for chroma in chromas
        for full in (False, True)
    ]


def wanted() -> dict[Variant, Kernel]:
    """Return what a user's frames can ask for: of every layout and look, in half precision."""
    found: dict[Variant, Kernel] = {}
    width, height = OUTPUT
    tall, flat = packings(width, height)[:2]
    with _recorded(found):
        for fused in (True, False):
            rig = Rig(_network(fused), META, torch.float16, host=_Host())
            _record(Plan(rig, tall, _scene(LOOKS[0])))
            rig.network = _Silent()
            for packing in (each for size in SIZES for each in packings(*size)):
                stages = STAGES if fused else STAGES[:2]  # what follows knows no difference
                _record(Plan(rig, packing, _scene(LOOKS[0])), stages)
        for packing, look in itertools.product((tall, flat), LOOKS):
            _record(Plan(rig, packing, _scene(look)))
        _record(Plan(rig, tall, _scene(ALONE)))
        for packing, mirror in itertools.product(packings(width, height)[2:4], (False, True)):
            blurred = Scene(width, height, Blur(60.0), Look(mirror=mirror))
            _record(Plan(rig, packing, blurred))
    return found


def compiled(variant: Variant, kernel: Kernel, capability: int) -> tuple[dict[str, Any], bytes]:
    """Return what Triton says of a kernel for such a GPU, and its code."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    places = {name: (i,) for i, name in enumerate(kernel.names)}
    types = dict(zip(kernel.given, variant.types, strict=True))
    signature = {name: types.get(name, "constexpr") for name in kernel.names}
    constants = {places[name]: value for name, value in variant.constants}
    pointers = [name for name in types if kernel.aligned and types[name].startswith("*")]
    source = ASTSource(
        kernel.compiled, signature, constants, {places[name]: ALIGNED for name in pointers}
    )
    target = GPUTarget("cuda", capability, 32)
    made = triton.compile(source, target=target, options={"num_warps": variant.warps})
    told = made.metadata._asdict()
    if told["global_scratch_size"] or told["profile_scratch_size"] or told["num_ctas"] != 1:
        raise ValueError(f"{variant.key} asks for what no launch of ours gives")
    if told["shared"] > MOST_SHARED:
        raise ValueError(f"{variant.key} takes {told['shared']} bytes of shared memory")
    return told, made.asm["cubin"]


def shelf(capability: int, variants: dict[Variant, Kernel]) -> shipped.Shelf:
    """Return kernels for such a GPU."""
    kernels, code = {}, b""
    for variant, kernel in sorted(variants.items(), key=lambda each: each[0].key):
        told, cubin = compiled(variant, kernel, capability)
        kernels[variant.key] = shipped.Compiled(
            shipped.digest(kernel.fn), len(code), len(cubin), told["shared"], 32 * variant.warps
        )
        code += cubin
    return shipped.Shelf(kernels, code)


def main() -> int:
    """Write a file for every kind of GPU, or for those that are asked for; the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument("capability", nargs="*", type=int, help="ten times the compute capability")
    from triton import knobs

    knobs.compilation.disable_line_info = True  # paths of whoever compiles, and half of the size
    variants = wanted()
    for capability in parser.parse_args().capability or shipped.CAPABILITIES:
        made = shelf(capability, variants)
        path = shipped.path_for(capability)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(made.packed())
        say(f"{path.name}: {len(made.kernels)} kernels, {len(made.code)} bytes of code,"
              f" {path.stat().st_size} bytes")  # fmt: skip
    return 0


def _scene(look: Look) -> Scene:
    width, height = OUTPUT
    return Scene(width, height, np.zeros((height * 3 // 2, width), np.uint8), look)


def _network(fused: bool) -> BiSeNet:
    with META:
        made = fold(BiSeNet(1.0)).eval().requires_grad_(False).to(torch.float16)
        made = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return networks.fused(made) if fused else made


class _Silent(torch.nn.Module):
    """A network that computes nothing: its kernels are known already."""

    inputs = 8

    def forward(self, x: Tensor) -> Tensor:
        return torch.empty((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)


class _Host:
    """Host memory whose way up is the processor's; what comes down has nowhere to go."""

    def take(self, exchange: Exchange) -> Buffers:
        made = Pinned(torch.device("cpu")).take(exchange)
        return Buffers(made.up, (made.down[0].to(META), made.down[1].to(META)), made.backdrop)

    def give_back(self, buffers: Buffers) -> None:
        """Nothing is kept."""


def _record(plan: Plan, stages: Sequence[str] = STAGES) -> None:
    plan._tidy.pieces = torch_matte.pieces
    plan.use_triton()
    with torch.inference_mode():
        for stage in stages:
            getattr(plan, stage)(0)


@contextmanager
def _recorded(found: dict[Variant, Kernel]) -> Iterator[None]:
    """Note what is launched, instead of launching it."""

    def launch(self: Kernel, grid: Any, arguments: dict[str, Any], warps: int) -> None:
        found[self.variant(arguments, warps)] = self

    before, Kernel._launch = Kernel._launch, launch  # type: ignore[method-assign]
    try:
        yield
    finally:
        Kernel._launch = before  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main())
