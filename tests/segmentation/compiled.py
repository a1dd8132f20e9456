"""Triton's kernels compiled for a GPU that is not there, by Triton's own ptxas.

A process of its own: `python -m tests.segmentation.compiled 90` prints JSON for compute capability
9.0: of each kernel the bytes of code, and of stack and spills a thread, the most of its variants.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys

import torch
import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from segmentation.engines import networks
from segmentation.engines.cuda import read_weights, weights_path
from tests.segmentation.interpreted import CASES, asked
from tests.segmentation.test_cuda import CPU
from vcam.gpu.kernels import between, tail

TYPES = {
    torch.float32: "*fp32", torch.float16: "*fp16", torch.uint8: "*u8", torch.int32: "*i32",
    torch.int64: "*i64", torch.int16: "*i16",
}  # fmt: skip
ALIGNED = [["tt.divisibility", 16]]
SAID = re.compile(r"(\d+) bytes (stack frame|spill stores|spill loads)")
SIZE = 64, 96


class Compiler:
    """In the place of Triton's launcher: compiles what would be launched, each variant once."""

    def __init__(self, capability: int) -> None:
        self.found: dict[str, dict[str, int]] = {}
        self._target, self._known = GPUTarget("cuda", capability, 32), set()

    def __call__(self, kernel, *args, grid, warmup, num_warps=4, **options):
        given = dict(zip(kernel.arg_names, args, strict=False)) | options
        constants, signature, attributes = {}, {}, {}
        for parameter in kernel.params:
            name, value = parameter.name, given[parameter.name]
            place = (parameter.num,)
            if parameter.is_constexpr or (isinstance(value, int) and value == 1):
                constants[place] = getattr(value, "value", value)
                signature[name] = "constexpr"
            elif isinstance(value, torch.Tensor):
                signature[name] = TYPES[value.dtype]
                if value.data_ptr() % 16 == 0:
                    attributes[place] = ALIGNED
            else:
                signature[name] = "fp32" if isinstance(value, float) else "i32"
                if isinstance(value, int) and value % 16 == 0:
                    attributes[place] = ALIGNED
        key = kernel.__name__, str(signature), str(constants), str(attributes), num_warps
        if key not in self._known:
            self._known.add(key)
            self._compile(kernel, signature, constants, attributes, num_warps)

    def _compile(self, kernel, signature, constants, attributes, num_warps) -> None:
        source = ASTSource(kernel, signature, constants, attributes)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            options = {"num_warps": num_warps}
            made = triton.compile(source, target=self._target, options=options)
        told = {"code": [len(made.asm["cubin"])]}
        for number, what in SAID.findall(said.getvalue()):
            told.setdefault(what, []).append(int(number))
        assert len(told) == 4, f"ptxas said nothing of {kernel.__name__}: was it compiled before?"
        found = self.found.setdefault(kernel.__name__, dict.fromkeys(told, 0))
        for what, numbers in told.items():
            found[what] = max(found[what], *numbers)


def main() -> None:
    knobs.nvidia.dump_ptxas_log = True
    compiler = Compiler(int(sys.argv[1]))
    JITFunction.run = lambda self, *args, **how: compiler(self, *args, **how)
    for case in CASES.values():
        segmenter, packing, parts, scene = asked(*case, "triton", ("fp16", "fused"), examine=False)
        segmenter.run(packing, parts, seq=0, pts=0.0, scene=scene)
    weights = read_weights(weights_path("auto"))
    with torch.inference_mode():
        network = networks.build("fused", weights, SIZE, CPU, torch.float16)
        x = networks.trial(SIZE, CPU).half()
        body, head = networks.split(network)
        features = between.Body.of(body)(networks.widened(x, network.inputs))
        tail.Tail(head.conv, SIZE, SIZE)(features)
    print(json.dumps(compiler.found))


if __name__ == "__main__":
    main()
