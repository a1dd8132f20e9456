"""OpenVINO's other devices, Intel GPUs and NPUs: one is taken where it is right, and faster."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from segmentation import store
from segmentation.engines.layout import is_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segmentation.engines.layout import Engine

log = logging.getLogger(__name__)

NODES: Final = ("/sys/class/drm/renderD*", "/sys/class/accel/*", "/sys/class/misc/dxg")  # any
KEPT: Final = "device.json"
SAME: Final = 0.05  # mean difference of alpha from the processor's, above which it is wrong
GAIN: Final = 0.8  # of the processor's seconds a frame may take, to be worth a second engine
DIED: Final = "its trial did not come to an end"


def listed() -> dict[str, str]:
    """Return the devices besides the processor that OpenVINO lists, each with its full name."""
    if sys.platform == "linux" and not any(glob.glob(node) for node in NODES):
        return {}  # and OpenVINO, which takes a while to load, need not be asked
    try:
        core = _core()
        names = [name for name in core.available_devices if is_device(name)]
        return {name: str(core.get_property(name, "FULL_DEVICE_NAME")) for name in names}
    except Exception as error:  # of a driver
        log.info("OpenVINO's devices: %s", error)
        return {}


def fastest(
    *,
    threads: int = 1,
    cache_dir: Path | None = None,
    size: tuple[int, int] = (160, 288),
    opener: Callable[..., Engine] | None = None,
) -> str:
    """Return the device that is known, or measured now, to be right and faster than the processor.

    "" is the processor. What was measured holds until OpenVINO, a device or the weights change;
    `report` reads it. A device whose trial ends the process is not tried again.
    """
    names = listed()
    if not names:
        return ""
    from segmentation.engines import choice  # Numba: only when used

    opener = opener or choice.open_openvino
    kept = store.Store(None if cache_dir is None else store.private([cache_dir]), "measurements")
    key = _key(names, threads, size)
    known = _recall(kept)
    if known.get("key") == key:
        return _chosen(known)
    found: dict[str, dict[str, Any]] = {name: {"problem": DIED} for name in names}
    _remember(kept, key, "", found)
    mine = _measured(lambda: opener(threads=threads, cache_dir=cache_dir, size=size), size, None)
    exact = mine.pop("answer")
    best, least = "", GAIN * mine["seconds"]
    for name in names:
        try:
            found[name] = _measured(
                lambda: opener(cache_dir=cache_dir, size=size, device=name),  # noqa: B023
                size,
                exact,
            )
            del found[name]["answer"]
        except Exception as error:  # a driver's, a compiler's: the next may do
            found[name] = {"problem": (str(error).splitlines() or [type(error).__name__])[0]}
            continue
        right = found[name]["apart"] < SAME
        if right and found[name]["seconds"] <= least:
            best, least = name, found[name]["seconds"]
    _remember(kept, key, best, {**found, "CPU": mine})
    log.info("OpenVINO's devices: %s; %s does the work", found, best or "the processor")
    return best


def report(cache_dir: Path | None) -> dict[str, Any]:
    """Return what was chosen and measured last: "device" and "measured"; {} if nothing was."""
    folder = None if cache_dir is None or not cache_dir.is_dir() else store.private([cache_dir])
    return _recall(store.Store(folder, "measurements"))


def verdict(known: dict[str, Any], device: str) -> str:
    """Say in a few words what became of `device` when it was measured, as `report` tells."""
    measured = known.get("measured")
    if not isinstance(measured, dict):
        return "not measured yet"
    found = measured.get(device)
    if not isinstance(found, dict):
        return "not measured yet"
    if found.get("problem"):
        return f"not used: {found['problem']}"
    try:
        ms, mine = (1000 * float(x["seconds"]) for x in (found, measured["CPU"]))
        wrong = not float(found["apart"]) < SAME
    except (KeyError, TypeError, ValueError):
        return "not measured yet"
    if wrong:
        return "not used: it computes something else than the processor"
    chosen = "chosen" if known.get("device") == device else "not used"
    return f"{chosen}: {ms:.1f} ms a frame, the processor {mine:.1f} ms"


def _measured(
    opened: Callable[[], Engine], size: tuple[int, int], exact: NDArray[np.float32] | None
) -> dict[str, Any]:
    """Return an engine's seconds a frame, its answer to a person, and how far that is from `exact`.

    Raises:
        SegmentationError: it cannot be opened, or answers wrongly.
    """
    from segmentation.engines import choice

    engine = opened()
    try:
        x = choice.trial(engine, size)
        answer = engine.infer(x).copy()
        spent = []
        for _ in range(choice.TRIALS):
            start = time.perf_counter()
            engine.infer(x)
            spent.append(time.perf_counter() - start)
        apart = 0.0 if exact is None else float(np.abs(answer - exact).mean())
        seconds = float(np.mean(sorted(spent)[: choice.TRIALS // 2]))
        return {"seconds": seconds, "apart": apart, "answer": answer}
    finally:
        engine.close()


def _core() -> Any:
    import openvino as ov

    return ov.Core()


def _key(names: dict[str, str], threads: int, size: tuple[int, int]) -> str:
    import openvino as ov

    from segmentation.engines import choice, openvino

    parts = [
        ov.__version__,
        openvino.processor(),
        str(threads),
        str(size),
        str(sorted(names.items())),
    ]
    parts += [str(path.stat().st_size) for path in choice.shipped() if path.exists()]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def _recall(kept: store.Store) -> dict[str, Any]:
    try:
        known = json.loads(kept.get(KEPT) or b"null")
    except ValueError:
        return {}
    return known if isinstance(known, dict) else {}


def _chosen(known: dict[str, Any]) -> str:
    device = known.get("device")
    return device if isinstance(device, str) and is_device(device) else ""


def _remember(kept: store.Store, key: str, device: str, found: dict[str, Any]) -> None:
    content = {"key": key, "device": device, "measured": found}
    kept.put(KEPT, json.dumps(content, indent=2).encode())
