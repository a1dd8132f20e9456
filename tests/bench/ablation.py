"""Worth of each step from network to edge, on a clip whose true alpha is known.

    python -m tests.bench.ablation --clip CLIP --alpha ALPHA [--model PATH] [--frames N]

`CLIP` is a composite of somebody keyed from a green screen, `ALPHA` its matte as a grey clip.
Prints Markdown tables: figures against the truth with steps added one by one; leak while the
person flies past a drawn room, smoothed against unsmoothed; the halo that blur leaves; what each
amount of work that the governor chooses from costs and gives.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np

from segmentation.governor import LADDER, Level
from segmentation.matte import Matte
from segmentation.motion.flow import Carrier
from segmentation.motion.temporal import Smoother
from segmentation.planes import Planes
from segmentation.refine import Guided, Tidy
from segmentation.segmenter import Segmenter
from tests.scenes import draw
from train.figures import metrics
from vcam import __version__
from vcam.compose.compositor import Compositor, alpha_at
from vcam.compose.scene import Blur, Look
from vcam.frame import Frame
from vcam.media.clip import ClipSource
from vcam.media.pictures import i420_from_image, image_from_i420

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPEEDS = (3, 10, 30)  # pixels a frame
SMOOTHING = 0.6


@dataclass
class Take:
    """A clip after the network: everything that the later steps need."""

    raw: list[NDArray[np.float32]]
    picture: list[NDArray[np.uint8]]
    luma: list[NDArray[np.uint8]]
    truth: list[NDArray[np.float32]]


def shoot(model: str, quality: str, frames: Iterator[tuple[Frame, NDArray[np.float32]]]) -> Take:
    """Run the network alone over `frames`."""
    take = Take([], [], [], [])
    segmenter = Segmenter(model, quality=quality, smoothing=0.0)
    segmenter.level = Level(quality, 1, 1.0)
    for frame, truth in frames:
        matte = segmenter.matte(frame.planes, seq=frame.seq, pts=frame.pts)
        take.raw.append(matte.raw.copy())
        take.picture.append(matte.picture.copy())
        take.luma.append(frame.planes.y)
        take.truth.append(truth)
    segmenter.close()
    return take


def play(
    take: Take, *, tidy: bool, smooth: float, guide: bool, every: int = 1, stale: bool = False
) -> list[NDArray[np.float32]]:
    """Return the mattes at full size with the steps that are asked for."""
    tidies, smoother, guided, carrier = Tidy(), Smoother(smooth), Guided(), Carrier()
    alphas, last = [], take.raw[0]
    for i, (raw, picture, luma) in enumerate(zip(take.raw, take.picture, take.luma, strict=True)):
        alpha = raw.copy()
        if i % every and stale:
            alpha = last.copy()
        elif not (i % every and carrier.carry(picture, (alpha, np.zeros_like(alpha)), i / 30)):
            alpha = raw.copy()
            if every > 1:
                carrier.keep(picture, alpha, i / 30)
        last = alpha.copy()
        if tidy:
            tidies(alpha)
        if smooth:
            smoother(alpha, picture)
        if guide:
            a, b = np.zeros_like(alpha), np.zeros_like(alpha)
            guided(alpha, picture[0], a, b)
            alphas.append(alpha_at(Matte(alpha, a, b, i, 0.0, raw, picture, False, True), luma))
        else:
            alphas.append(np.asarray(cv2.resize(alpha, luma.shape[::-1]), np.float32))
    return alphas


def clip(path: Path, alpha: Path, limit: int) -> Iterator[tuple[Frame, NDArray[np.float32]]]:
    """The frames of a clip with their true alpha."""
    with ClipSource(path, live=False) as source, av.open(str(alpha)) as container:
        truths = container.decode(video=0)
        for _ in range(limit):
            try:
                frame, truth = source.read(1.0), next(truths)
            except (EOFError, StopIteration):
                return
            assert frame is not None
            yield frame, truth.to_ndarray(format="gray").astype(np.float32) / 255


def flight(
    frames: list[tuple[Frame, NDArray[np.float32]]], speed: float
) -> Iterator[tuple[Frame, NDArray[np.float32]]]:
    """The same person, swinging left and right in front of a drawn room, with sensor noise."""
    height, width = frames[0][1].shape
    room = draw("loft", width, height)
    rng = np.random.default_rng(0)
    swing = 0.3 * width
    for i, (frame, alpha) in enumerate(frames):
        move = np.array([[1, 0, swing * np.sin(i * speed / swing)], [0, 1, 0]], np.float32)
        data = np.concatenate([plane.reshape(-1) for plane in frame.planes.each])
        person = cv2.warpAffine(
            image_from_i420(data.reshape(height * 3 // 2, width)), move, (width, height)
        )
        moved = np.asarray(cv2.warpAffine(alpha, move, (width, height)), np.float32)
        image = person * moved[..., None] + room * (1 - moved[..., None])
        image += rng.normal(0, 2, (height, width, 1))
        yield of_image(np.clip(image, 0, 255).astype(np.uint8), i), moved


def of_image(image: NDArray[np.uint8], seq: int) -> Frame:
    """An image of even size as a frame."""
    h, w = image.shape[:2]
    flat = i420_from_image(image).reshape(-1)
    area = h * w
    u, v = (flat[at : at + area // 4].reshape(h // 2, w // 2) for at in (area, area * 5 // 4))
    return Frame(Planes(flat[:area].reshape(h, w), u, v), seq / 30, seq)


def steps(take: Take) -> None:
    """Print the table of steps."""
    rows: dict[str, Callable[[], list[NDArray[np.float32]]]] = {
        "network, bilinear": lambda: play(take, tidy=False, smooth=0, guide=False),
        "+ guided edges": lambda: play(take, tidy=False, smooth=0, guide=True),
        "+ islands and holes": lambda: play(take, tidy=True, smooth=0, guide=True),
        "+ smoothing (as shipped)": lambda: play(take, tidy=True, smooth=SMOOTHING, guide=True),
        "shipped, bilinear instead of guided": lambda: play(
            take, tidy=True, smooth=SMOOTHING, guide=False
        ),
        "shipped, two of three frames carried by flow": lambda: play(
            take, tidy=True, smooth=SMOOTHING, guide=True, every=3
        ),
        "shipped, two of three frames stale": lambda: play(
            take, tidy=True, smooth=SMOOTHING, guide=True, every=3, stale=True
        ),
    }
    print("| steps | person IoU | boundary F | MAD x1000 | leak | dtSSD | flicker |")
    print("|---|---|---|---|---|---|---|")
    for name, run in rows.items():
        alphas = run()
        told = metrics.clip(np.array(alphas), np.array(take.truth))
        print(
            f"| {name} | {told['person_iou']:.4f} | {told['boundary_f']:.4f} "
            f"| {told['mad'] * 1000:.2f} | {told['leak']:.4f} "
            f"| {told['dtssd']:.2f} | {told['flicker']:.2f} |",
            flush=True,
        )


def trail(speed: float, take: Take) -> None:
    """Print how much smoothing adds to the leak behind somebody who moves."""
    leaks, lights = [], []
    for smooth in (0.0, SMOOTHING):
        alphas = play(take, tidy=True, smooth=smooth, guide=True)
        pairs = list(zip(alphas, take.truth, strict=True))
        leaks.append(float(np.mean([metrics.leak(a, t) for a, t in pairs])))
        lights.append(float(np.mean([metrics.light(a, t) for a, t in pairs])))
    print(
        f"| {speed:.0f} | {leaks[0]:.5f} | {leaks[1]:.5f} | {leaks[1] / max(leaks[0], 1e-9):.2f} "
        f"| {lights[0]:.5f} | {lights[1]:.5f} | {lights[1] / max(lights[0], 1e-9):.2f} |",
        flush=True,
    )


def halo(take: Take, model: str, quality: str) -> None:
    """Print how far the blurred room beside the person is from the same room without anybody."""
    height, width = take.truth[0].shape
    room = draw("loft", width, height)
    red = np.array([220, 40, 40], np.float32)
    segmenter = Segmenter(model, quality=quality, still=True)
    compositor = Compositor(width, height)
    print("| blur | error in the 40 px band | the same with plain blur |")
    print("|---|---|---|")
    for strength in (20, 50, 100):
        errors, plain = [], []
        for i in range(0, len(take.truth), 12):
            alpha = take.truth[i][..., None]
            frames = [of_image(room, i)]
            image = np.clip(red * alpha + room * (1 - alpha), 0, 255).astype(np.uint8)
            frames.append(of_image(image, i))
            shown = []
            for frame, truth in zip(
                frames, (np.zeros_like(take.truth[i]), take.truth[i]), strict=True
            ):
                matte = segmenter.matte(frame.planes, seq=i, pts=0.0)
                # The true matte: this table judges the blur and not the network.
                small = np.asarray(cv2.resize(truth, matte.alpha.shape[::-1]), np.float32)
                matte.alpha[:], matte.raw[:] = small, small
                Guided()(matte.alpha, matte.picture[0], matte.a, matte.b)
                safe = compositor.compose(frame, matte, Blur(strength), Look())
                shown.append(image_from_i420(safe.data).astype(np.int16))
            outside = (take.truth[i] < 0.01).astype(np.uint8)
            distance = cv2.distanceTransform(outside, cv2.DIST_L2, 5)
            band = (distance > 2) & (distance <= 40)
            errors.append(np.abs(shown[1] - shown[0])[band].mean())
            sigma = strength / 100 * 0.06 * width
            naive = [cv2.GaussianBlur(p, (0, 0), sigma).astype(np.int16) for p in (room, image)]
            plain.append(np.abs(naive[1] - naive[0])[band].mean())
        print(f"| {strength} % | {np.mean(errors):.2f} | {np.mean(plain):.2f} |", flush=True)
    segmenter.close()


def levels(
    frames: list[tuple[Frame, NDArray[np.float32]]],
    flights: dict[int, list[tuple[Frame, NDArray[np.float32]]]],
    model: str,
) -> None:
    """Print what each step of the ladder costs and gives, on the clip and in flight."""
    heads = "".join(f" leak at {speed} px |" for speed in flights)
    print(
        f"| quality, every | ms | looks | person IoU | boundary F | leak | dtSSD | flicker |{heads}"
    )
    print("|---" * (8 + len(flights)) + "|")
    tried = [*LADDER, *(Level(level.quality, 1, 0) for level in LADDER if level.every > 1)]
    for level in dict.fromkeys((level.quality, level.every) for level in tried):
        alphas, spent, looks = live(frames, model, *level)
        told = metrics.clip(np.array(alphas), np.array([truth for _, truth in frames]))
        row = (
            f"| {level[0]}, {level[1]} | {spent:.2f} | {looks:.2f} | {told['person_iou']:.4f} "
            f"| {told['boundary_f']:.4f} | {told['leak']:.4f} | {told['dtssd']:.2f} "
            f"| {told['flicker']:.2f} |"
        )
        for flown in flights.values():
            alphas = live(flown, model, *level)[0]
            leaks = [metrics.leak(a, t) for a, (_, t) in zip(alphas, flown, strict=True)]
            row += f" {np.mean(leaks):.4f} |"
        print(row, flush=True)


def live(
    frames: list[tuple[Frame, NDArray[np.float32]]], model: str, quality: str, every: int
) -> tuple[list[NDArray[np.float32]], float, float]:
    """Return the program's mattes at full size, CPU ms for each, the share looked at."""
    segmenter = Segmenter(model, quality="balanced", smoothing=SMOOTHING)
    segmenter.level = Level(quality, every, 1.0)
    alphas, spent, looks = [], [], 0
    for frame, _ in frames:
        started = time.process_time()
        matte = segmenter.matte(frame.planes, seq=frame.seq, pts=frame.pts)
        spent.append(time.process_time() - started)
        looks += matte.looked
        alphas.append(alpha_at(matte, frame.planes.y))
    segmenter.close()
    return alphas, float(np.mean(spent[len(spent) // 4 :])) * 1000, looks / len(frames)


def stamp(model: str) -> str:
    """Version, weights, processor, date and command, without which a figure means little."""
    path = Path(model)
    files = [each for each in (path, path.with_suffix(".bin")) if each.is_file()]
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in files)).hexdigest()[:12]
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    weights = f"{path.name} (SHA-256 {digest}…)" if files else model
    words = shlex.join(["python", "-m", "tests.bench.ablation", *sys.argv[1:]])
    machine = names[0] if names else platform.processor()
    return f"vcam {__version__}, {weights}, {machine}, {date.today()}: `{words}`"


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--alpha", type=Path, required=True)
    parser.add_argument("--model", default="auto")
    parser.add_argument("--quality", default="balanced", choices=["low", "balanced", "high"])
    parser.add_argument("--frames", type=int, default=1000)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"{stamp(options.model)}\n")
    frames = list(clip(options.clip, options.alpha, options.frames))
    take = shoot(options.model, options.quality, iter(frames))
    steps(take)
    print("\n| px a frame | leak | leak, smoothed | ratio | light | light, smoothed | ratio |")
    print("|---|---|---|---|---|---|---|")
    for speed in SPEEDS:
        trail(speed, shoot(options.model, options.quality, flight(frames[:60], speed)))
    print()
    halo(take, options.model, options.quality)
    print()
    flights = {speed: list(flight(frames[:60], speed)) for speed in SPEEDS}
    levels(frames, flights, options.model)


if __name__ == "__main__":
    main()
