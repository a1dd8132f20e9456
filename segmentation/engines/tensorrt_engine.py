"""The network in TensorRT, where torch-tensorrt is installed; built once and kept on disk."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

if TYPE_CHECKING:
    from segmentation.bisenet import BiSeNet
    from segmentation.store import Store

log = logging.getLogger(__name__)

ALIKE: Final = "tensorrt-*.engine"
MOST: Final = 4  # engines that are kept: of a few sizes, cards or versions


def open_network(
    network: BiSeNet, size: tuple[int, int], device: torch.device, kept: Store
) -> TensorRTNetwork:
    """Return the network for inputs of this size, of the engine on disk where that is of use.

    Building one takes minutes.

    Raises:
        RuntimeError, ImportError: TensorRT is missing, or refuses the network.
    """
    name = name_of(network, size, device)
    blob = kept.get(name)
    if blob is not None:
        try:
            return TensorRTNetwork(blob, device)
        except RuntimeError as error:
            kept.forget(name, str(error))
    blob = _built(network, size, device)
    made = TensorRTNetwork(blob, device)
    kept.put(name, blob, alike=ALIKE, most=MOST)
    return made


def name_of(network: BiSeNet, size: tuple[int, int], device: torch.device) -> str:
    """Return the name of the file of an engine: by weights, size, TensorRT and GPU."""
    import tensorrt

    found = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        found.update(f"{name} {weight.dtype} {tuple(weight.shape)}\0".encode())
        found.update(weight.detach().float().contiguous().cpu().numpy().tobytes())
    card = torch.cuda.get_device_properties(device)
    what = (size, tensorrt.__version__, card.name, card.major, card.minor)
    found.update(repr(what).encode())
    return f"tensorrt-{found.hexdigest()[:32]}.engine"


class TensorRTNetwork:
    """An engine of one input and one output, run on torch's stream. Owned by one thread.

    Raises:
        RuntimeError: TensorRT refuses the engine.
    """

    def __init__(self, blob: bytes, device: torch.device) -> None:
        import tensorrt

        self._runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
        self._engine: Any = self._runtime.deserialize_cuda_engine(blob)
        if self._engine is None:
            raise RuntimeError("TensorRT refuses it")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        takes = tensorrt.TensorIOMode.INPUT
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == takes]
        if len(names) != 2 or len(inputs) != 1:
            raise RuntimeError("it is of another network")
        self._input = inputs[0]
        self.inputs = int(self._engine.get_tensor_shape(self._input)[1])
        self.room = self.inputs > 3  # those beyond the picture are for the learned room
        self._output = next(name for name in names if name != self._input)
        self._shape = tuple(self._engine.get_tensor_shape(self._output))
        self._context: Any = self._engine.create_execution_context()
        self._device = device

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits.

        Shapes:
            x: (1, `inputs`, h, w) in the precision of the network; returns: (1, 1, h, w), alike
        """
        x = x.contiguous()  # as TensorRT takes pictures: one plane after another
        made = torch.empty(self._shape, dtype=x.dtype, device=self._device)
        self._context.set_tensor_address(self._input, x.data_ptr())
        self._context.set_tensor_address(self._output, made.data_ptr())
        stream = torch.cuda.current_stream(self._device).cuda_stream
        if not self._context.execute_async_v3(stream):
            raise RuntimeError("TensorRT did not run the network")
        return made


def _built(network: BiSeNet, size: tuple[int, int], device: torch.device) -> bytes:
    """Return what TensorRT makes of the network, as bytes."""
    import torch_tensorrt

    dtype = next(network.parameters()).dtype
    x = torch.zeros((1, network.inputs, *size), device=device, dtype=dtype)
    log.info("TensorRT builds the network for %s x %s, which takes minutes", size[1], size[0])
    exported = torch.export.export(network, (x,))
    return bytes(
        torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
            exported, arg_inputs=[x], use_explicit_typing=True
        )
    )
