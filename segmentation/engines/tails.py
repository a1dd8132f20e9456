"""The end of a BiSeNet's graph, done outside of it: OpenVINO takes far longer to double a plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TENT: Final = np.outer((0.25, 0.75, 0.75, 0.25), (0.25, 0.75, 0.75, 0.25))  # of a doubled size
CLOSE: Final = 1e-3  # weights are rounded to fp16


class Tail:
    """Makes alpha of logits at half the size: doubles them, bilinearly, and takes the sigmoid."""

    def __init__(self, caution: float) -> None:
        self._caution = caution  # what is taken off the logits first
        self._alpha: NDArray[np.float32] = np.zeros((0, 0), np.float32)

    def __call__(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return alpha; the array is overwritten by the next call.

        What is not a number stays so, for whoever judges the matte.

        Shapes:
            logits: (1, 1, h, w) float32; returns: (2 h, 2 w) float32 in 0..1
        """
        h, w = logits.shape[2:]
        if self._alpha.shape != (2 * h, 2 * w):
            self.wipe()
            self._alpha = np.zeros((2 * h, 2 * w), np.float32)
        alpha = self._alpha
        cv2.resize(logits[0, 0], (2 * w, 2 * h), alpha, interpolation=cv2.INTER_LINEAR)
        np.subtract(np.float32(self._caution), alpha, out=alpha)
        with np.errstate(over="ignore"):
            np.exp(alpha, out=alpha)
        np.add(alpha, np.float32(1), out=alpha)
        np.reciprocal(alpha, out=alpha)
        return alpha

    def wipe(self) -> None:
        """Overwrite the last matte."""
        self._alpha.fill(0)


def cut(graph: Any) -> Tail | None:
    """Have the graph end before it doubles its logits; None, and nothing done, if it does not.

    That is a transposed convolution by `TENT` of the plane with its edges repeated, which stands
    for a resize that OpenVINO is even slower at, perhaps a constant taken off, and the sigmoid.
    """
    if len(graph.get_results()) != 1:
        return None
    result = graph.get_results()[0]
    caution = 0.0
    node = _before(result)
    if node.get_type_name() != "Sigmoid":
        return None
    node = _before(node)
    if node.get_type_name() == "Subtract":
        taken = _constant(node, 1)
        if taken is None or taken.size != 1:
            return None
        node, caution = _before(node), float(taken.ravel()[0])
    if node.get_type_name() != "ConvolutionBackpropData" or not _doubles(node):
        return None
    padded = _before(node)
    if padded.get_type_name() != "Pad" or not _repeats_edges(padded):
        return None
    half = padded.input(0).get_source_output()
    if half.partial_shape[1].is_dynamic or half.partial_shape[1].get_length() != 1:
        return None
    result.input(0).replace_source_output(half)
    graph.validate_nodes_and_infer_types()
    return Tail(caution)


def _doubles(node: Any) -> bool:
    """True for the transposed convolution that doubles a plane bilinearly."""
    told, weights = node.get_attributes(), _constant(node, 1)
    steps = [list(told[name]) for name in ("strides", "pads_begin", "pads_end", "dilations")]
    plain = steps == [[2, 2], [3, 3], [3, 3], [1, 1]] and told["auto_pad"] == "explicit"
    plain &= not any(told["output_padding"]) and len(node.inputs()) == 2
    if not plain or weights is None or weights.shape != (1, 1, 4, 4):
        return False
    return bool(np.abs(weights - TENT).max() <= CLOSE)


def _repeats_edges(node: Any) -> bool:
    """True if it adds one row or column on each side, like the one beside it."""
    around = [_constant(node, i) for i in (1, 2)]
    told = [[] if each is None else each.ravel().tolist() for each in around]
    return node.get_attributes()["pad_mode"] == "edge" and told == [[0, 0, 1, 1]] * 2


def _before(node: Any) -> Any:
    """The node that the first input comes from."""
    return node.input(0).get_source_output().get_node()


def _constant(node: Any, index: int) -> NDArray[Any] | None:
    """An input that is the same always; None if it is not."""
    source = node.input(index).get_source_output().get_node()
    if source.get_type_name() == "Convert":  # of what is stored in fewer bits
        source = _before(source)
    return np.asarray(source.get_data()) if source.get_type_name() == "Constant" else None
