"""The faults: each spoils the frame, the matte, the background or the sink in one way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from segmentation.matte import Matte
from tests.faults import canary
from vcam.frame import Frame
from vcam.guard import Fault

h, w = canary.H // 2, canary.W // 2
Spoil = Callable[["Scene"], None]


@dataclass
class Scene:
    """One step of the loop: what the camera gives, what the engine answers, what else breaks."""

    frame: Frame | Fault | None
    matte: Matte | Fault
    last_frame: Frame | None
    last_matte: Matte | None
    backdrop_error: Exception | None = None
    backdrop_wrong: np.ndarray | None = None
    sink_broken: bool = False
    compose_error: Exception | None = None


def truth(frame: Frame) -> Matte:
    """The matte of a canary frame: the person, a soft edge, no room."""
    columns = np.clip((80 - 2 * (np.arange(w) + 0.5) * 1.0) / 16 + 0.0, 0, 1)
    columns[40:] = 0
    raw = np.repeat(columns[None, :], h, axis=0).astype(np.float32)
    raw[0, 0] = 0.999 - 1e-4 * (frame.seq % 97)  # a network never answers exactly the same
    picture = np.zeros((3, h, w), np.uint8)
    small = frame.planes.y[::2, ::2]
    picture[0, : small.shape[0], : small.shape[1]] = small[:h, :w]
    return Matte(
        raw, np.zeros_like(raw), raw.copy(), frame.seq, frame.pts, raw.copy(), picture, False, True
    )


def matte_fault(change: Callable[[Matte], Matte | Fault]) -> Spoil:
    def spoil(scene: Scene) -> None:
        if isinstance(scene.matte, Matte):
            scene.matte = change(scene.matte)

    return spoil


def frame_fault(change: Callable[[Frame], Frame | Fault | None]) -> Spoil:
    """Spoil the frame; the engine answers for what it is given, as a real one would."""

    def spoil(scene: Scene) -> None:
        if isinstance(scene.frame, Frame):
            scene.frame = change(scene.frame)
            scene.matte = (
                truth(scene.frame) if isinstance(scene.frame, Frame) else Fault("no frame")
            )

    return spoil


def filled(value: float) -> Callable[[Matte], Matte]:
    def change(m: Matte) -> Matte:
        full = np.full_like(m.raw, value)
        return replace(m, raw=full, alpha=full, a=np.zeros_like(full), b=full)

    return change


def spotted(value: float, where: str) -> Callable[[Matte], Matte]:
    def change(m: Matte) -> Matte:
        plane = getattr(m, where).copy()
        plane[h // 2, w // 2] = value
        return replace(m, **{where: plane})

    return change


def nearly_ones(m: Matte) -> Matte:
    noise = np.random.default_rng(m.seq).uniform(0.985, 1, m.raw.shape).astype(np.float32)
    return replace(m, raw=noise, alpha=noise, b=noise)


def undecided(m: Matte) -> Matte:
    noise = np.random.default_rng(m.seq).uniform(0.2, 0.8, m.raw.shape).astype(np.float32)
    return replace(m, raw=noise, alpha=noise, b=noise)


def cropped(name: str) -> Callable[[Matte], Matte]:
    return lambda m: replace(m, **{name: getattr(m, name)[:-1]})


def again(scene: Scene) -> None:
    if scene.last_matte is not None and isinstance(scene.matte, Matte):
        last = scene.last_matte
        scene.matte = replace(last, seq=scene.matte.seq, picture=scene.matte.picture)


def stale_matte(scene: Scene) -> None:
    if scene.last_matte is not None:
        scene.matte = scene.last_matte


def stale_frame(scene: Scene) -> None:
    if scene.last_frame is not None:
        scene.frame = scene.last_frame
        scene.matte = truth(scene.last_frame)


def pixels(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Frame], Frame]:
    return lambda f: replace(f, planes=replace(f.planes, y=change(f.planes.y.copy())))


def torn(y: np.ndarray) -> np.ndarray:
    y[canary.H // 2 :] = 128
    return y


def shifted(y: np.ndarray) -> np.ndarray:
    return np.roll(y, canary.H // 3, axis=0)


def chroma_422(f: Frame) -> Frame:
    wide = np.full((f.height, f.width // 2), 128, np.uint8)
    return replace(f, planes=replace(f.planes, u=wide, v=wide))


def backdrop_raises(error: Exception) -> Spoil:
    return lambda scene: setattr(scene, "backdrop_error", error)


def backdrop_is(data: np.ndarray) -> Spoil:
    return lambda scene: setattr(scene, "backdrop_wrong", data)


def compose_raises(error: Exception) -> Spoil:
    return lambda scene: setattr(scene, "compose_error", error)


def sink_breaks(scene: Scene) -> None:
    scene.sink_broken = True


def both(*spoils: Spoil) -> Spoil:
    def spoil(scene: Scene) -> None:
        for one in spoils:
            one(scene)

    return spoil


# Faults of which the card is the only right answer.
CARD: dict[str, Spoil] = {
    "engine raises": matte_fault(lambda m: Fault("engine failed")),
    "engine not open": matte_fault(lambda m: Fault("starting")),
    "model vanished": matte_fault(lambda m: Fault("model cannot be used")),
    "matte all one": matte_fault(filled(1.0)),
    "matte all zero": matte_fault(filled(0.0)),
    "matte all half": matte_fault(filled(0.5)),
    "matte nearly one": matte_fault(nearly_ones),
    "matte undecided": matte_fault(undecided),
    "NaN in the answer": matte_fault(spotted(np.nan, "raw")),
    "NaN in alpha": matte_fault(spotted(np.nan, "alpha")),
    "NaN in a": matte_fault(spotted(np.nan, "a")),
    "NaN in b": matte_fault(spotted(np.nan, "b")),
    "infinite a": matte_fault(spotted(np.inf, "a")),
    "infinite b": matte_fault(spotted(-np.inf, "b")),
    "answer above one": matte_fault(spotted(7.0, "raw")),
    "answer below zero": matte_fault(spotted(-3.0, "raw")),
    "answer scaled to 255": matte_fault(lambda m: replace(m, raw=m.raw * 255)),
    "answer of another shape": matte_fault(cropped("raw")),
    "alpha of another shape": matte_fault(cropped("alpha")),
    "a of another shape": matte_fault(cropped("a")),
    "b of another shape": matte_fault(cropped("b")),
    "matte of three dimensions": matte_fault(lambda m: replace(m, raw=m.raw[None])),
    "matte of the frame before": stale_matte,
    "matte of a later frame": matte_fault(lambda m: replace(m, seq=m.seq + 3)),
    "last matte under a new number": again,
    "camera unplugged": frame_fault(lambda f: Fault("camera unplugged")),
    "camera busy": frame_fault(lambda f: Fault("camera is used by another program")),
    "camera silent": frame_fault(lambda f: None),
    "frame five seconds old": frame_fault(lambda f: replace(f, pts=f.pts - 5)),
    "frame one second old": frame_fault(lambda f: replace(f, pts=f.pts - 1)),
    "frame a second ahead": frame_fault(lambda f: replace(f, pts=f.pts + 1)),
    "frame three seconds ahead": frame_fault(lambda f: replace(f, pts=f.pts + 3)),
    "frame five seconds ahead": frame_fault(lambda f: replace(f, pts=f.pts + 4.9)),
    "frame from the future": frame_fault(lambda f: replace(f, pts=f.pts + 60)),
    "clock stepped back a day": frame_fault(lambda f: replace(f, pts=f.pts - 86400)),
    "frame at NaN": frame_fault(lambda f: replace(f, pts=float("nan"))),
    "the same frame again": stale_frame,
    "background raises": backdrop_raises(RuntimeError("decoder died")),
    "background out of memory": backdrop_raises(MemoryError()),
    "background of another size": backdrop_is(np.zeros((30, 20), np.uint8)),
    "background of floats": backdrop_is(np.zeros((canary.H * 3 // 2, canary.W), np.float32)),
    "compositor raises": compose_raises(ValueError("kernel")),
    "compositor out of memory": compose_raises(MemoryError()),
    "two at once": both(matte_fault(filled(1.0)), sink_breaks),
}

# Faults after which a composite may still be right; what counts is that no room is in it.
HARMLESS: dict[str, Spoil] = {
    "torn frame": frame_fault(pixels(torn)),
    "black frame": frame_fault(pixels(lambda y: np.zeros_like(y))),
    "white frame": frame_fault(pixels(lambda y: np.full_like(y, 255))),
    "rolled frame": frame_fault(pixels(shifted)),
    "4:2:2 for 4:2:0": frame_fault(chroma_422),
    "range flips": frame_fault(lambda f: replace(f, planes=replace(f.planes, full_range=True))),
    "frame grows": frame_fault(lambda f: canary.frame(f.seq, f.pts, size=(2 * canary.W, canary.H))),
    "frame shrinks": frame_fault(lambda f: canary.frame(f.seq, f.pts, size=(96, 56))),
    "frames dropped": frame_fault(lambda f: replace(f, seq=f.seq + 1000)),
    "sink refuses": sink_breaks,
}

ALL = {**CARD, **HARMLESS}
