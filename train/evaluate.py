"""Figures of person models side by side: ours, and anybody's `.onnx` or `.tflite`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from segmentation.engines.openvino import OpenVinoEngine
from segmentation.errors import SegmentationError
from segmentation.planes import Planes
from segmentation.segmenter import Segmenter
from segmentation.sizes import AREAS, input_size
from train import metrics, proofs
from train.datasets import Pair, find_pairs, read_image, read_matte
from train.errors import DataError, UsageError
from train.manifests import Row, find_set, read_manifest, sources
from train.metrics import Alpha, Figures
from train.sheet import write_sheet

Image = NDArray[np.uint8]

SMALL, LARGE = 0.2, 0.5  # parts of the picture that a small and a large person cover
DARK, BRIGHT = 70, 150  # mean luma, 0..255, below and above which a picture is dark or bright
WAYS = ("network", "still", "live")
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


class Subject(Protocol):
    """A way to get mattes from pictures, under evaluation."""

    name: str

    def alpha(self, image: Image) -> Alpha:
        """Return the alpha of `image`, an (H, W, 3) uint8 RGB, as (H, W) float32."""
        ...

    def close(self) -> None:
        """Give its memory back."""
        ...


class Network:
    """A model alone: the picture resized to its input, its output resized back.

    A model of fixed size sees the whole picture stretched to it, which is how they were trained;
    one of free size sees the picture in its own shape, at `quality`'s number of pixels.
    """

    def __init__(self, path: Path, *, quality: str = "balanced") -> None:
        self._engine = OpenVinoEngine(path, threads=1, examine=False)
        self.name = path.stem
        self.seconds: list[float] = []
        self._area = AREAS[quality]

    def alpha(self, image: Image) -> Alpha:
        """Return the matte of one picture."""
        layout = self._engine.layout
        rows, columns = image.shape[:2]
        height, width = layout.size or input_size(rows, columns, self._area)[0]
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        x = (small.astype(np.float32) / 255 - layout.mean) / layout.std
        x = x[..., ::-1] if layout.order == "bgr" else x
        x = np.ascontiguousarray(x.transpose(2, 0, 1)[None], np.float32)
        started = time.process_time()
        out = self._engine.infer(x)
        self.seconds.append(time.process_time() - started)
        size = (image.shape[1], image.shape[0])
        return np.asarray(cv2.resize(np.array(out), size, interpolation=cv2.INTER_LINEAR))

    def close(self) -> None:
        """Give the model's memory back."""
        self._engine.close()


class Program:
    """What the program shows: network, who is in it, edges; and smoothing where it is a clip."""

    def __init__(
        self, path: Path, *, still: bool, quality: str = "balanced", fps: float = 30.0
    ) -> None:
        self._segmenter = Segmenter(str(path), quality=quality, still=still, examine=False)
        self.name = f"{path.stem} ({'still' if still else 'live'})"
        self._interval = 1 / fps
        self._seq = 0

    def alpha(self, image: Image) -> Alpha:
        """Return the matte of the next picture, at full size as the compositor computes it."""
        height, width = image.shape[:2]
        even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        y, u, v = planes(even)
        matte = self._segmenter.matte(
            Planes(y, u, v), seq=self._seq, pts=self._seq * self._interval
        )
        self._seq += 1
        size = (y.shape[1], y.shape[0])
        a = cv2.resize(matte.a, size, interpolation=cv2.INTER_LINEAR)
        b = cv2.resize(matte.b, size, interpolation=cv2.INTER_LINEAR)
        alpha = np.clip(a * (y.astype(np.float32) / np.float32(255)) + b, 0, 1)
        return np.ascontiguousarray(alpha[:height, :width], np.float32)

    def close(self) -> None:
        """Give the engine back."""
        self._segmenter.close()


@dataclass(slots=True)
class Result:
    """The figures of one subject."""

    name: str
    groups: dict[str, dict[str, float]] = field(default_factory=dict)
    buckets: dict[str, dict[str, float]] = field(default_factory=dict)
    clips: dict[str, dict[str, float]] = field(default_factory=dict)
    rooms: dict[str, dict[str, float]] = field(default_factory=dict)  # with nobody in them
    held: dict[str, dict[str, float]] = field(default_factory=dict)  # things before the chest
    pictures: dict[str, dict[str, float]] = field(default_factory=dict)
    milliseconds: float | None = None  # CPU time of one run of the network, one thread

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "groups": self.groups,
            "buckets": self.buckets,
            "clips": self.clips,
            "rooms": self.rooms,
            "held": self.held,
            "milliseconds": self.milliseconds,
            "pictures": self.pictures,
        }


def open_subject(path: Path, way: str, *, quality: str = "balanced", fps: float = 30.0) -> Subject:
    """Open a model in one of `WAYS`.

    Raises:
        UsageError: the model cannot be used, or the way is unknown.
    """
    if way not in WAYS:
        raise UsageError(f"way is {way!r}, expected one of {', '.join(WAYS)}", hint="Drop --way.")
    try:
        if way == "network":
            return Network(path, quality=quality)
        return Program(path, still=way == "still", quality=quality, fps=fps)
    except SegmentationError as error:
        raise UsageError(error.message, hint="Give an .xml, .onnx or .tflite file.") from error


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


def planes(image: Image) -> tuple[Image, Image, Image]:
    """Split an even-sized RGB image into Y, U and V, BT.601 limited range, 4:2:0.

    Shapes:
        image: (H, W, 3) uint8 RGB
        returns: (H, W), (H/2, W/2), (H/2, W/2) uint8
    """
    height, width = image.shape[:2]
    stacked = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420).ravel()
    luma, chroma = height * width, height * width // 4
    shape = (height // 2, width // 2)
    return (
        stacked[:luma].reshape(height, width),
        stacked[luma : luma + chroma].reshape(shape),
        stacked[luma + chroma :].reshape(shape),
    )


def buckets_of(image: Image, truth: Alpha) -> list[str]:
    """Which kinds of picture this is: small or large person, dark or bright."""
    cover, light = float(truth.mean()), float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean())
    found = ["small person" if cover < SMALL else "large person" if cover > LARGE else "medium"]
    if light < DARK:
        found.append("dark")
    elif light > BRIGHT:
        found.append("bright")
    return found


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
        if way == "live":
            result = Result(f"{path.stem} (live)")
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
