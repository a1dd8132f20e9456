"""Chooses what OpenVINO runs: which network, in which precision; a wrong answer rules each out."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segmentation import store
from segmentation.engines import answers
from segmentation.engines.layout import Engine, weights_dir
from segmentation.engines.openvino import OpenVinoEngine, has_bfloat16, processor
from segmentation.errors import ModelError, UntrustedError
from segmentation.kernels import LIMITED, to_input

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Opener = Callable[..., OpenVinoEngine]

log = logging.getLogger(__name__)

CHOICE = "precision.json"  # the precision that is fastest here
SHIPPED = "bisenet-small"
SHIPPED_LARGE = "bisenet-r18"
TRIALS = 12  # timed runs of each precision; the fastest half counts
SIZE = (160, 288)  # of the network's input, where nobody said which one will be used
AFFORDABLE = 0.012  # seconds for an input of `SIZE`, above which the large network loses frames
SAME = 0.05  # mean difference from fp32 on a picture with a person: above it a precision is broken
# Seconds count this much: a gain of a few percent is noise, and the more exact one is kept.
EXACTNESS = {"fp32": 0.93, "bf16": 0.96, "int8": 1.0}


def open_openvino(
    model: str = "auto",
    *,
    still: bool = False,
    large: bool = False,
    threads: int = 1,
    cache_dir: Path | None = None,
    size: tuple[int, int] = SIZE,
    examine: bool = True,
    device: str = "CPU",
) -> Engine:
    """Open the shipped model in the fastest precision, or the model file `model`.

    `large` takes the full-width network instead of the small one. For stills, where time does not
    matter, it is the mean of both: they err in different places. `size` is the input, (h, w), that
    is made ready and asked the pictures of `answers`; without `examine` nothing is asked. Of ours,
    what answers wrongly is left out, and `notes` of the engine says so. Another `device` than the
    processor runs the small network in the precision it likes best.

    Raises:
        ModelError: the weights are missing, damaged, or not a person model.
        UntrustedError: the model answers wrongly; of ours, all of them do.
        EngineError: OpenVINO does not work on this machine.
    """
    cache = None if cache_dir is None else store.private([cache_dir])
    kept = store.Store(cache, "measurements")

    def opened(path: Path, precision: str = "fp32") -> OpenVinoEngine:
        engine = OpenVinoEngine(
            path,
            precision=precision,
            threads=threads,
            device=device,
            cache_dir=cache,
            examine=examine,
        )
        try:
            engine.prepare(*(engine.layout.size or size))
        except Exception:
            engine.close()
            raise
        return engine

    if model != "auto":
        return opened(Path(model))
    full, small, wide = shipped()
    if not full.exists():
        raise ModelError(
            f"the shipped model {full.name} is missing from {full.parent}",
            hint="Install the program again, or set model to the path of a person model.",
        )
    if device != "CPU":
        return opened(full, "fp16")
    notes: list[str] = []
    engine: Engine | None = None
    if still and wide.exists():
        engine = _mean(opened, (full, wide), notes)
    if engine is None and large and wide.exists():
        engine = _affordable(opened, wide, notes)
    if engine is None:
        choices = {"fp32": full}
        if has_bfloat16():
            choices["bf16"] = full
        if small.exists():
            choices["int8"] = small
        engine = _fastest(opened, choices, kept, _fingerprint(choices, threads), notes)
    if engine is None and wide.exists() and not (still or large):
        engine = _tried(opened, wide, "int8", notes)  # late is better than wrong
    if engine is None:
        raise UntrustedError(notes[-1], hint="Install the program again.")
    engine.notes.extend(notes)
    return engine


def shipped() -> tuple[Path, Path, Path]:
    """Return the files of the small network in fp32 and int8, and of the large one in int8."""
    exact, small = (weights_dir() / f"{SHIPPED}{tail}.xml" for tail in ("", "-int8"))
    return exact, small, weights_dir() / f"{SHIPPED_LARGE}-int8.xml"


class MeanEngine:
    """Several networks that answer together; owned and closed like one engine.

    They are of one layout, but for the inputs for the room: who has none is not told of it.
    """

    name = "openvino"

    def __init__(self, *engines: OpenVinoEngine) -> None:
        self._engines = engines
        self.device = engines[0].device
        self.model = " + ".join(engine.model for engine in engines)
        self.precision = engines[0].precision
        self.layout = max((e.layout for e in engines), key=lambda layout: layout.inputs)
        self.notes = [note for engine in engines for note in engine.notes]

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean of what the networks say; see `Engine.infer`."""
        said = [engine.infer(x[:, : engine.layout.inputs]).copy() for engine in self._engines]
        return np.asarray(np.mean(said, axis=0), np.float32)

    def prepare(self, h: int, w: int) -> None:
        """Compile every network for inputs of h x w now."""
        for engine in self._engines:
            engine.prepare(h, w)

    def reset(self) -> None:
        """Forget the frames before, in every network."""
        for engine in self._engines:
            engine.reset()

    def wipe(self) -> None:
        """Overwrite what the pictures left in every network."""
        for engine in self._engines:
            engine.wipe()

    def close(self) -> None:
        """Close every network."""
        for engine in self._engines:
            engine.close()


def _tried(opened: Opener, path: Path, precision: str, notes: list[str]) -> OpenVinoEngine | None:
    """Return the engine, or None and a note if it answers wrongly."""
    try:
        return opened(path, precision)
    except UntrustedError as error:
        log.warning("%s", error)
        notes.append(str(error))
        return None


def _mean(opened: Opener, paths: tuple[Path, ...], notes: list[str]) -> Engine | None:
    tried = [_tried(opened, path, "fp32", notes) for path in paths]
    good = [engine for engine in tried if engine is not None]
    return MeanEngine(*good) if good else None


def _affordable(opened: Opener, wide: Path, notes: list[str]) -> OpenVinoEngine | None:
    """Return the large network, or None where it takes too long, or answers wrongly."""
    engine = _tried(opened, wide, "int8", notes)
    if engine is None:
        return None
    spent = _best_of(engine, trial(engine, SIZE))
    if spent <= AFFORDABLE:
        return engine
    engine.close()
    log.info("The large model takes %.0f ms a frame here: the small one it is", 1000 * spent)
    return None


def _fastest(
    opened: Opener,
    choices: dict[str, Path],
    kept: store.Store,
    key: str,
    notes: list[str],
) -> OpenVinoEngine | None:
    """Return the network in the precision that is known, or measured now, to be the fastest."""
    known = _recall(kept, key)
    if known is not None and known[0] in choices:
        engine = _tried(opened, choices[known[0]], known[0], [])
        if engine is not None:
            notes.extend(known[1])
            return engine
    refused: list[str] = []  # each is asked again
    x, best = None, None
    spent: dict[str, float] = {}
    apart: dict[str, float] = {}
    exact: NDArray[np.float32] | None = None
    for name, path in choices.items():
        engine = _tried(opened, path, name, refused)
        if engine is None:
            continue
        x = trial(engine, SIZE) if x is None else x
        answer = engine.infer(x).copy()
        exact = answer if exact is None else exact
        apart[name] = float(np.abs(answer - exact).mean())
        spent[name] = _best_of(engine, x)
        worth = spent[name] * EXACTNESS[name]
        if apart[name] < SAME and (best is None or worth < best[1]):
            if best is not None:
                best[0].close()
            best = engine, worth, name
        else:
            engine.close()
    notes.extend(refused)
    if best is None:
        return None
    figures = ", ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in spent.items())
    log.info("Model in %s: %s a frame", best[2], figures)
    measured: dict[str, object] = {
        "precision": best[2],
        "seconds": spent,
        "difference": apart,
        "refused": refused,
    }
    kept.put(CHOICE, json.dumps({"key": key, **measured}, indent=2).encode())
    return best[0]


def _fingerprint(choices: dict[str, Path], threads: int) -> str:
    """Name this machine, these weights and this OpenVINO: a measurement holds for all of them."""
    import openvino as ov

    parts = [ov.__version__, str(threads), processor()]
    for name, path in choices.items():
        weights = path.with_suffix(".bin")
        seen = weights.stat() if weights.exists() else None
        parts.append(f"{name} {seen.st_size} {seen.st_mtime_ns}" if seen else name)
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def _recall(kept: store.Store, key: str) -> tuple[str, list[str]] | None:
    """Return the precision that was chosen, and why others were refused."""
    try:
        known = json.loads(kept.get(CHOICE) or b"null")
    except ValueError:
        return None
    if not isinstance(known, dict) or known.get("key") != key:
        return None
    choice, refused = known.get("precision"), known.get("refused")
    if not isinstance(choice, str):
        return None
    return choice, [str(text) for text in refused] if isinstance(refused, list) else []


def _best_of(engine: OpenVinoEngine, x: NDArray[np.float32]) -> float:
    """CPU seconds of one run: mean of the faster half of `TRIALS`."""
    spent = []
    for _ in range(TRIALS):
        start = time.process_time()
        engine.infer(x)
        spent.append(time.process_time() - start)
    return float(np.mean(sorted(spent)[: TRIALS // 2]))


def trial(engine: Engine, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the person before the room as this network wants its picture."""
    x = np.zeros((1, engine.layout.inputs, *size), np.float32)
    picture = answers.pictures(*answers.part(*size))[0]
    to_input(picture, engine.layout.matrix(LIMITED), engine.layout.scale(), x)
    return x
