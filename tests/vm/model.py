"""A person model for a webcam that shows no person: the left half is the person."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def left_half_is_person(path: Path, h: int = 90, w: int = 160) -> Path:
    """Write the model; its answer depends a little on the picture, as a real one's does."""
    import openvino as ov
    import openvino.opset13 as ops

    x = ops.parameter(ov.PartialShape([1, 3, h, w]), np.float32, name="x")
    x.output(0).set_names({"x"})
    grey = ops.reduce_mean(x, ops.constant(np.array([1], np.int64)), True)
    ramp = np.clip((w / 2 - np.arange(w, dtype=np.float32)) * 4, -12, 12)
    place = ops.constant(np.broadcast_to(ramp, (1, 1, h, w)).astype(np.float32))
    logits = ops.add(place, ops.multiply(ops.tanh(grey), ops.constant(np.float32(0.5))))
    model = ov.Model([ops.sigmoid(logits)], [x])
    ov.save_model(model, str(path), compress_to_fp16=False)
    return path
