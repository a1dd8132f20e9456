"""Figures of person models side by side: ours, and anybody's `.onnx` or `.tflite`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from train.data.datasets import Alpha, Image, Pair, find_pairs, read_image, read_matte
from train.data.manifests import Row, find_set, read_manifest, sources
from train.errors import DataError
from train.figures import metrics, proofs
from train.figures.metrics import Figures
from train.figures.result import Result
from train.figures.sheet import write_sheet
from train.subjects import Network, Subject, open_subject

SMALL, LARGE = 0.2, 0.5  # parts of the picture that a small and a large person cover
DARK, BRIGHT = 70, 150  # mean luma, 0..255, below and above which a picture is dark or bright
SKIN = ((77, 127), (133, 180))  # Cb and Cr of skin, 0..255, whatever its tone
# CIE L* of a face as it is lit: of its tone and its light, which no picture tells apart.
LIGHTNESS = {"under 40": 40.0, "40 to 55": 55.0, "55 to 70": 70.0, "70 and more": 101.0}
FACE = 0.45  # part of a person's height from the top in which the face is looked for
ENOUGH = 0.03  # share of that part that has to be skin
WORST = 16  # pictures on a sheet
COLUMNS = {  # of the table: key, heading, decimals
    "miou": ("mIoU", 4),
    "person_iou": ("person", 4),
    "p5_person_iou": ("p5", 3),
    "boundary_f": ("boundary", 3),
    "mad": ("MAD", 4),
    "leak": ("leak", 4),
    "cut": ("cut", 4),
    "dtssd": ("dtSSD", 2),
    "flicker": ("flicker", 2),
    "worst_leak": ("worst", 4),
}


def on_pictures(
    subject: Subject, pairs: Iterable[Pair], manifest: dict[str, dict[str, str]]
) -> Result:
    """Figures on photographs: by source, by bucket, and for each.

    Raises:
        DataError: a picture cannot be read, or its matte is of another size.
    """
    result = Result(subject.name)
    groups: dict[str, Figures] = {}
    buckets: dict[str, Figures] = {}
    everything = Figures()
    for pair in pairs:
        image, truth = read_image(pair.image), read_matte(pair.matte)
        if image.shape[:2] != truth.shape:
            raise DataError(
                f"{pair.matte}: matte is {truth.shape[1]}x{truth.shape[0]}, its picture "
                f"{image.shape[1]}x{image.shape[0]}",
                hint="Run `train prepare`, which leaves such pairs out.",
            )
        alpha = subject.alpha(image)
        result.pictures[pair.image.stem] = everything.add(alpha, truth)
        source = manifest.get(pair.image.stem, {}).get("source", "all")
        groups.setdefault(source, Figures()).add(alpha, truth)
        for bucket in buckets_of(image, truth):
            buckets.setdefault(bucket, Figures()).add(alpha, truth)
    result.groups = {name: groups[name].summary() for name in sorted(groups)}
    if "all" not in groups:
        result.groups["all"] = everything.summary()
    result.buckets = {name: buckets[name].summary() for name in sorted(buckets)}
    if isinstance(subject, Network):
        result.milliseconds = float(np.median(subject.seconds) * 1000)
    return result


def on_clip(subject: Subject, clip: Path, truth: Path) -> dict[str, float]:
    """Figures on a clip with its true alpha, frame by frame in order.

    Raises:
        DataError: a clip cannot be read, or the two differ in size or length.
    """
    alphas, truths = [], []
    for image, matte in zip(frames(clip), frames(truth), strict=False):
        if image.shape != matte.shape:
            raise DataError(
                f"{truth}: frames are {matte.shape[1]}x{matte.shape[0]}, the clip's "
                f"{image.shape[1]}x{image.shape[0]}",
                hint="Give the alpha clip that belongs to this clip.",
            )
        alphas.append(subject.alpha(image))
        truths.append(matte[..., 1].astype(np.float32) / np.float32(255))
    if len(alphas) < 2:
        raise DataError(f"{clip}: {len(alphas)} frames", hint="Give a clip of two frames or more.")
    return metrics.clip(np.stack(alphas), np.stack(truths))


def frames(path: Path) -> Iterator[Image]:
    """Every frame of a clip as (H, W, 3) uint8 RGB.

    Raises:
        DataError: it cannot be opened.
    """
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise DataError(f"{path}: not a clip that can be read", hint="Check the path.")
        while True:
            read, picture = capture.read()
            if not read:
                return
            yield np.ascontiguousarray(picture[..., ::-1], np.uint8)
    finally:
        capture.release()


def clip_fps(path: Path) -> float:
    """Frames per second as the clip states them, 30 where it does not."""
    capture = cv2.VideoCapture(str(path))
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    return fps if 1 <= fps <= 240 else 30.0


def buckets_of(image: Image, truth: Alpha) -> list[str]:
    """Kinds of picture this is: small or large person, dark or bright, face lit so far."""
    cover, light = float(truth.mean()), float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean())
    found = ["small person" if cover < SMALL else "large person" if cover > LARGE else "medium"]
    if light < DARK:
        found.append("dark")
    elif light > BRIGHT:
        found.append("bright")
    lightness = lightness_of_skin(image, truth)
    if lightness is not None:
        found.append(f"face, L* {next(n for n, end in LIGHTNESS.items() if lightness < end)}")
    return found


def lightness_of_skin(image: Image, truth: Alpha) -> float | None:
    """Median CIE L*, 0..100, of a face's skin as it was lit; None where hardly any is seen.

    Skin is found by its chroma, as in "Face segmentation using skin-color map in videophone
    applications" (Chai and Ngan, IEEE TCSVT 1999), which hardly depends on its tone.
    """
    rows = np.flatnonzero((truth > 0.9).any(axis=1))
    if not rows.size:
        return None
    top, last = int(rows[0]), int(rows[-1])
    bottom = top + max(1, round(FACE * (last - top + 1)))
    face, person = np.ascontiguousarray(image[top:bottom]), truth[top:bottom] > 0.9
    _, cr, cb = cv2.split(cv2.cvtColor(face, cv2.COLOR_RGB2YCrCb))
    (least_b, most_b), (least_r, most_r) = SKIN
    skin = person & (cb >= least_b) & (cb <= most_b) & (cr >= least_r) & (cr <= most_r)
    if int(np.count_nonzero(skin)) < ENOUGH * max(1, int(np.count_nonzero(person))):
        return None
    lightness = cv2.cvtColor(face, cv2.COLOR_RGB2LAB)[..., 0][skin]
    return float(np.median(lightness)) * 100 / 255


@dataclass(slots=True)
class Exam:
    """Everything that models are asked."""

    pictures: Path  # a folder with img/ and mask/, or a manifest
    split: str = "val"  # of the manifests
    clips: list[tuple[Path, Path]] = field(default_factory=list)
    rooms: list[tuple[Path, Row]] = field(default_factory=list)
    prints: list[Image] = field(
        default_factory=list
    )  # on the things that are held; none: not asked
    quality: str = "balanced"


def pictures_of(path: Path, split: str) -> tuple[list[Pair], dict[str, Row]]:
    """The pairs of a folder, or of one split of a manifest, and what is told of each by name."""
    if path.suffix != ".csv":
        return find_pairs(path), sources(path)
    rows = read_manifest(path, ("image",))
    return find_set(path.name, path.parent, split), {Path(r["image"]).stem: r for r in rows}


def evaluate(models: list[tuple[Path, str]], exam: Exam) -> list[Result]:
    """Evaluate each (model, way) on what `exam` asks; live, a model is asked clips alone."""
    pairs, manifest = pictures_of(exam.pictures, exam.split)
    results = []
    for path, way in models:
        if way in ("live", "unlearnt"):
            result = Result(f"{path.stem} ({way})")
        else:
            subject = open_subject(path, way, quality=exam.quality)
            result = on_pictures(subject, pairs, manifest)
            if exam.rooms:
                result.rooms = proofs.on_rooms(subject, exam.rooms)
            if exam.prints:
                result.held, _ = proofs.on_held(subject, pairs, exam.prints)
            subject.close()
        for clip, truth in exam.clips:
            subject = open_subject(path, way, quality=exam.quality, fps=clip_fps(clip))
            result.clips[clip.stem] = on_clip(subject, clip, truth)
            subject.close()
        if len(result.clips) > 1:
            result.clips[proofs.ALL] = proofs.spread_of(result.clips)
        results.append(result)
    return results


def write_held(path: Path, model: tuple[Path, str], exam: Exam) -> None:
    """Write a sheet of the held things of which `model` loses most."""
    pairs, _ = pictures_of(exam.pictures, exam.split)
    subject = open_subject(*model, quality=exam.quality)
    _, rows = proofs.on_held(subject, pairs, exam.prints)
    subject.close()
    write_sheet(rows[: 2 * WORST], path)


def write_worst(path: Path, model: tuple[Path, str], result: Result, exam: Exam) -> None:
    """Write a sheet of the pictures on which `result`, of `model`, is worst."""
    worst = sorted(result.pictures, key=lambda name: result.pictures[name]["iou"])[:WORST]
    pairs = {pair.image.stem: pair for pair in pictures_of(exam.pictures, exam.split)[0]}
    subject = open_subject(*model)
    rows = []
    for name in worst:
        image, truth = read_image(pairs[name].image), read_matte(pairs[name].matte)
        rows.append((name, image, subject.alpha(image), truth))
    subject.close()
    write_sheet(rows, path)


def table(results: list[Result]) -> str:
    """The figures as a Markdown table, one row a model and group of pictures."""
    heads = ["pictures", "model", "n", *(head for head, _ in COLUMNS.values())]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    names: dict[str, None] = {}
    for result in results:
        names.update(dict.fromkeys([*result.groups, *result.clips]))
    for name in names:
        for result in results:
            figures = {**result.groups, **result.clips}.get(name)
            if figures:
                cells = [
                    f"{figures[key]:.{digits}f}" if key in figures else ""
                    for key, (_, digits) in COLUMNS.items()
                ]
                lines.append(
                    f"| {name} | {result.name} | {figures['n']:.0f} | {' | '.join(cells)} |"
                )
    return "\n".join(lines)
