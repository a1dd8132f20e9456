"""Engines that run the network: OpenVINO on a CPU, torch on a CUDA card."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from segmentation.engines.layout import Engine, Layout, is_device, weights_dir
from segmentation.engines.nvidia import why_not
from segmentation.errors import EngineError

if TYPE_CHECKING:
    from typing import Final

log = logging.getLogger(__name__)

ENGINES: Final = ("auto", "cpu", "cuda")

__all__ = ["ENGINES", "Engine", "Layout", "open_engine", "weights_dir", "why_not"]


def open_engine(
    model: str = "auto",
    *,
    engine: str = "auto",
    still: bool = False,
    large: bool = False,
    threads: int = 1,
    cache_dir: Path | None = None,
    size: tuple[int, int] | None = None,
    examine: bool = True,
) -> Engine:
    """Open `model` ("auto": the shipped one, else a path) on the engine asked for.

    Besides `ENGINES` that may be one of OpenVINO's devices, by its name: "GPU.0", "NPU".

    `still` asks for the most exact model, however long it takes; `large` for the full-width network
    instead of the small one.
    `cache_dir` keeps compiled models and the choice between int8 and fp32; None keeps neither.
    It is asked two pictures whose answer is known, at `size` (h, w) if the model leaves it open;
    without `examine` it is not: that is for measuring a model, never for showing somebody.

    Raises:
        ModelError: the weights are missing, damaged, or not a person model.
        UntrustedError: it answers the pictures wrongly.
        EngineError: the engine is unknown or does not work on this machine.
    """
    if engine not in ENGINES and not is_device(engine):
        raise EngineError(
            f"engine is {engine!r}, expected one of {', '.join(map(repr, ENGINES))}",
            hint='Set engine = "auto".',
        )
    if engine == "cuda":
        reason = why_not()
        if reason:
            raise EngineError(f"CUDA cannot be used: {reason}", hint='Set engine = "cpu".')
        from segmentation.engines.cuda import CudaEngine  # torch: seconds, only when used

        made = CudaEngine(model, examine=examine)
        made.prepare(*(size or (160, 288)))
        return made
    from segmentation.engines import choice  # OpenVINO takes a third of a second: only when used

    return choice.open_openvino(
        model,
        still=still,
        large=large,
        threads=threads,
        cache_dir=cache_dir,
        size=size or choice.SIZE,
        examine=examine,
        device=engine if is_device(engine) else "CPU",
    )
