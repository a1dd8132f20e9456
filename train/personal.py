"""The default network taught on with a minute of one's own webcam: mattes, fit, judgement.

A take is a folder of pictures STEP_MILLISECONDS.jpg, in the order of their names; those whose step
ends in "empty" show the room alone. Nobody labels them: the wide network, and the default one that
is told of the room, agree on the mattes. Seconds that nothing was learnt from judge the result.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Final

import cv2
import numpy as np

from segmentation.engines import weights_dir
from segmentation.engines.openvino import OpenVinoEngine
from segmentation.errors import SegmentationError
from train.data.datasets import Alpha, Image, read_image
from train.errors import DataError, ExportError
from train.figures.metrics import Figures
from train.fit import fit
from train.place import Place
from train.recipe import Recipe, load_recipe
from train.subjects import Network, Program
from train.views.teachers import agree
from train.weights.export import export

Report = Callable[[str, int, int], None]  # what is done, how far, of how much

FPS: Final = 4.0  # pictures a second
EMPTY: Final = "empty"
SHIPPED: Final = "bisenet-small"
WIDE: Final = "bisenet-r18-int8.xml"
WEIGHTS: Final = (0.6, 0.4)  # of the wide network's matte, and of the default one's
STRETCH: Final = 1.3  # their mean is made this much steeper about a half
JUDGED: Final = (0.4, 0.6)  # part of each step that is kept out,
APART: Final = 1.0  # seconds beside it from which nothing is learnt either
FEWEST: Final = (24, 8)  # pictures to learn from, and to judge by
STAGES: Final = ("label", "learn", "export", "judge")
BETTER: Final = 0.002  # mIoU on the seconds kept out, from which it is worth having
WORSE: Final = 0.001  # mIoU that it may lose there, with the room known or not
SHOWN: Final = 0.0005  # part of the room more that it may show there
SAFE: Final = (0.001, 0.002)  # of strange rooms more for a person; mIoU less on a stranger
PART: Final = 0.8  # of the time that learning takes; export and judgement have the rest
LEAST, MOST = 20, 450  # steps


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture of a take."""

    path: Path
    step: str
    seconds: float

    @property
    def empty(self) -> bool:
        """True if nobody is in it."""
        return self.step.endswith(EMPTY)


@dataclass(frozen=True, slots=True)
class Stranger:
    """Pictures that come with the program: rooms, half to learn and half to judge, and somebody."""

    rooms: list[Path]
    portrait: Path


@dataclass(frozen=True, slots=True)
class Told:
    """Figures of a network: of the seconds kept out, and of strangers."""

    miou: float  # with nothing known of the room
    known: float  # mIoU with the room known, as the program runs
    leak: float
    known_leak: float
    rooms: float  # part of strange rooms that is taken for a person
    stranger: float  # mIoU on somebody else


@dataclass(frozen=True, slots=True)
class Verdict:
    """The network before and after, and whether to have it."""

    before: Told
    after: Told
    model: str  # the file

    @property
    def better(self) -> bool:
        """True if it gained more than the margin, and lost nothing that matters."""
        old, new = self.before, self.after
        gain = (new.miou - old.miou + new.known - old.known) / 2
        return (
            gain >= BETTER
            and min(new.miou - old.miou, new.known - old.known) >= -WORSE
            and max(new.leak - old.leak, new.known_leak - old.known_leak) <= SHOWN
            and new.rooms - old.rooms <= SAFE[0]
            and old.stranger - new.stranger <= SAFE[1]
        )

    def as_json(self) -> str:
        """The verdict on one line."""
        return json.dumps({"verdict": asdict(self) | {"better": self.better}})


def shots_of(take: Path) -> list[Shot]:
    """The pictures of a take, in order.

    Raises:
        DataError: there is none of the empty room, or none of somebody.
    """
    found = []
    for path in sorted(take.glob("*_*.jpg")):
        step, _, milliseconds = path.stem.rpartition("_")
        found.append(Shot(path, step, int(milliseconds) / 1000))
    if len({shot.empty for shot in found}) < 2:
        raise DataError(
            f"{take}: {len(found)} pictures, expected some of an empty room and some of somebody",
            hint="Take them again.",
        )
    return found


def parted(shots: list[Shot]) -> tuple[list[Shot], list[Shot]]:
    """Those to learn from, and those to judge by: whole seconds, apart from all others in time."""
    learnt, judged = [], []
    for step in dict.fromkeys(shot.step for shot in shots if not shot.empty):
        mine = [shot for shot in shots if shot.step == step]
        start, span = mine[0].seconds, mine[-1].seconds - mine[0].seconds
        first, last = (start + part * span for part in JUDGED)
        apart = min(APART, 0.1 * span)
        for shot in mine:
            if first <= shot.seconds <= last:
                judged.append(shot)
            elif not first - apart < shot.seconds < last + apart:
                learnt.append(shot)
    return learnt, judged


def mattes(shots: list[Shot], report: Report) -> Iterator[tuple[Shot, Image, Alpha]]:
    """Each picture of somebody with its matte, where both teachers see the same."""
    teachers = [
        Program(path, "live", quality="high", fps=FPS, smoothing=0.0)
        for path in (weights_dir() / WIDE, weights_dir() / f"{SHIPPED}.xml")
    ]
    try:
        for number, shot in enumerate(shots):
            report("label", number, len(shots))
            image = read_image(shot.path)
            if number == 0 and shot.empty:
                for teacher in teachers:
                    teacher.alone()
            wide, small = (teacher.alpha(image) for teacher in teachers)
            if shot.empty or not agree(wide, small):
                continue
            mean = WEIGHTS[0] * wide + WEIGHTS[1] * small
            alpha = np.clip((mean - 0.5) * STRETCH + 0.5, 0, 1)
            if (alpha > 0.5).mean() > 0.01:
                yield shot, image, np.asarray(alpha, np.float32)
    finally:
        for teacher in teachers:
            teacher.close()


def write_sets(
    shots: list[Shot], work: Path, stranger: Stranger, report: Report
) -> dict[str, Alpha]:
    """Write what `fit` reads, train/, val/ and rooms/; return the mattes that judge, by name.

    Raises:
        DataError: hardly anybody is in the take.
    """
    learnt, judged = ({shot.path for shot in part} for part in parted(shots))
    truths = {}
    for split in ("train", "val"):
        for folder in ("img", "mask"):
            (work / split / folder).mkdir(parents=True)
    for shot, _, alpha in mattes(shots, report):
        name = shot.path.stem
        splits = [s for s, paths in (("train", learnt), ("val", judged)) if shot.path in paths]
        for split in splits:
            shutil.copyfile(shot.path, work / split / "img" / shot.path.name)
            cv2.imwrite(str(work / split / "mask" / f"{name}.png"), np.rint(alpha * 255))
        if "val" in splits:
            truths[name] = alpha
    count = len(list((work / "train" / "img").iterdir()))
    if count < FEWEST[0] or len(truths) < FEWEST[1]:
        raise DataError(
            f"{count} pictures to learn from and {len(truths)} to judge by, "
            f"expected {FEWEST[0]} and {FEWEST[1]}: hardly anybody was seen",
            hint="Sit in the middle of the picture, in enough light, and try again.",
        )
    (work / "rooms").mkdir()
    empty = [shot.path for shot in shots if shot.empty]
    for number, path in enumerate([*empty[:: max(1, len(empty) // 8)], *stranger.rooms[::2]]):
        shutil.copyfile(path, work / "rooms" / f"{number:02d}{path.suffix}")
    return truths


def recipe_of(base: Recipe, *, steps: int, epochs: int) -> Recipe:
    """The recipe `own`, for the last stages alone."""
    batch = base.fit.batch
    return replace(
        base,
        name="personal",
        network=replace(base.network, start=str(weights_dir() / f"{SHIPPED}.safetensors")),
        data=replace(base.data, train=("train",), validation=("val",), rooms="rooms", walls=16),
        fit=replace(
            base.fit,
            epochs=epochs,
            views=batch * max(1, steps // epochs),
            shapes=("16:9", "16:9", "4:3"),
            trunk=0.0,
            warmup=max(1, steps // 15),
            validate=epochs,
            sheet=epochs + 1,
        ),
        augment=replace(base.augment, empty=0.15),
    )


def teach(base: Recipe, work: Path, seconds: float, report: Report) -> Path:
    """Fit for about so many seconds; return the checkpoint."""
    place, trial = Place(workers=0), work / "trial"
    fit(recipe_of(base, steps=3, epochs=1), work, trial, place)
    speed = json.loads((trial / "log.jsonl").read_text().splitlines()[0])["views_per_second"]
    shutil.rmtree(trial)
    steps = int(min(MOST, max(LEAST, PART * seconds * speed / base.fit.batch)))
    epochs = min(10, steps)
    told = _Epochs(report)
    logging.getLogger("train.run").addHandler(told)
    try:
        report("learn", 0, epochs)
        recipe = recipe_of(base, steps=steps, epochs=epochs)
        fit(recipe, work, work / "run", place, seconds=seconds)  # however slow the machine gets
    finally:
        logging.getLogger("train.run").removeHandler(told)
    return work / "run" / "last.pt"


class _Epochs(logging.Handler):
    """Reports each epoch that `Run` logs."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.INFO)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg.startswith("Epoch ") and isinstance(record.args, tuple):
            done, total = record.args[:2]
            self._report("learn", int(str(done)), int(str(total)))


def exported(checkpoint: Path, work: Path, stem: Path) -> Path:
    """Write the mean of a checkpoint and the shipped weights; return the file to use.

    Raises:
        ExportError: what was written is not the network it came from.
    """
    checkpoints = [checkpoint, weights_dir() / f"{SHIPPED}.safetensors"]
    try:
        export(checkpoints, stem, calibrate=work / "train", compact=True)
        made = stem.with_name(f"{stem.name}-int8.xml")
    except ExportError:  # in int8 it loses too much: then as it is
        export(checkpoints, stem)
        made = stem.with_name(f"{stem.name}.xml")
    try:  # the pictures whose answer is known, which the program asks, too
        OpenVinoEngine(made, threads=1).close()
    except SegmentationError as error:
        raise ExportError(error.message, hint="The shipped network stays.") from error
    return made


def judged(
    model: Path, shots: list[Shot], truths: dict[str, Alpha], stranger: Stranger, report: Report
) -> Told:
    """Figures of a model on the seconds kept out and on strangers."""
    figures = {}
    for turn, way in enumerate(("unlearnt", "live")):
        figures[way] = Figures()
        program = Program(model, way, fps=FPS, smoothing=0.0, every=1)
        for number, shot in enumerate(shots):
            report("judge", turn * len(shots) + number, 2 * len(shots))
            if number == 0 and shot.empty and way == "live":
                program.alone()
            alpha = program.alpha(read_image(shot.path))
            if shot.path.stem in truths:
                figures[way].add(alpha, truths[shot.path.stem])
        program.close()
    rooms, somebody = _of_strangers(model, stranger)
    alone, known = (figures[way].summary() for way in ("unlearnt", "live"))
    return Told(alone["miou"], known["miou"], alone["leak"], known["leak"], rooms, somebody)


def _of_strangers(model: Path, stranger: Stranger) -> tuple[float, float]:
    """The part of strange rooms taken for a person; mIoU on somebody before each of them."""
    network, shares, figures = Network(model), [], Figures()
    teacher = Program(weights_dir() / WIDE, "still", quality="high")
    person = read_image(stranger.portrait)
    truth = teacher.alpha(person)
    teacher.close()
    for path in stranger.rooms[1::2]:
        room = cv2.resize(read_image(path), person.shape[1::-1], interpolation=cv2.INTER_AREA)
        shares.append(float((network.alpha(np.asarray(room, np.uint8)) > 0.5).mean()))
        mixed = person * truth[..., None] + room * (1 - truth[..., None])
        figures.add(network.alpha(np.asarray(mixed, np.uint8)), truth)
    network.close()
    return float(np.mean(shares)), figures.summary()["miou"]


def end_with(stream: IO[str]) -> None:
    """End this process when who started it ends: `stream` is a pipe from it."""

    def wait() -> None:
        while stream.read(1):
            pass
        os._exit(1)

    if not stream.isatty():
        threading.Thread(target=wait, name="parent", daemon=True).start()


def personalise(
    take: Path,
    work: Path,
    stranger: Stranger,
    *,
    seconds: float,
    report: Report,
    base: Recipe | None = None,
) -> Verdict:
    """Teach the default network on with a take, in the empty folder `work`, and judge it.

    Raises:
        TrainError: hardly anybody is in the take, or the result cannot be used.
    """
    shots = shots_of(take)
    truths = write_sets(shots, work, stranger, report)
    checkpoint = teach(base or load_recipe(Path("own")), work, seconds, report)
    report("export", 0, 1)
    model = exported(checkpoint, work, work / "net" / "personal")
    before, after = (
        judged(path, shots, truths, stranger, report)
        for path in (weights_dir() / f"{SHIPPED}-int8.xml", model)
    )
    return Verdict(before, after, str(model))
