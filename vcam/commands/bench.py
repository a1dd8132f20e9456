"""`vcam bench`: what a frame costs on this machine, against `cv2.imdecode` of the same picture.

Everything happens in memory: the bundled portrait in motion is packed as a webcam would send it,
then decoded, matted, composited and copied out, one frame at a time, on one thread. Between the
frames the same JPEG is decoded by OpenCV, so that a busy or throttled machine slows both alike.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from segmentation.engines import nvidia
from segmentation.errors import SegmentationError
from segmentation.planes import i420_shape
from segmentation.segmenter import Machine, Segmenter
from vcam import foreign_text
from vcam.commands.bench_peer import PeerPipeline
from vcam.compose.compositor import Compositor
from vcam.compose.drawn import draw
from vcam.compose.scene import Blur, Look
from vcam.errors import ModelError, UsageError
from vcam.frame import Frame
from vcam.media.pictures import i420_from_image, image_from_i420
from vcam.overlay.tag import Tag
from vcam.settings.config import OverlaySettings
from vcam.sources.decode import MjpegDecoder, Unpacker
from vcam.sources.still import StillSource
from vcam.system.paths import cache_dir

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segmentation.matte import Matte
    from vcam.compose.scene import Picture

log = logging.getLogger(__name__)

SIZES: Final = {"720p": (1280, 720), "1080p": (1920, 1080)}
FORMATS: Final = ("mjpg", "yuyv")
BACKGROUNDS: Final = ("picture", "blur")
JPEG_QUALITY: Final = 85
PICTURES: Final = 16  # different frames that go round
WARM_UP: Final = 10  # frames before anything is counted
# What is done to the person and the picture beside the composite, each alone and all of it.
LOOKS: Final = {
    "off": Look(),
    "light": Look(light=40.0),
    "light 100": Look(light=100.0),
    "wrap": Look(light_wrap=0.4),
    "sharp": Look(sharp=True),
    "framing": Look(framing="head-and-shoulders"),
    "zoom": Look(zoom=1.5),
    "name tag": Look(),
    "all": Look(light=40.0, light_wrap=0.4, sharp=True, framing="head-and-shoulders", zoom=1.2),
}
TAGGED: Final = ("name tag", "all")
TAG: Final = OverlaySettings(
    show=True,
    name="Anna Müller",
    title="Head of Things",
    pronouns="she/her",
    logo="",
    clock=True,
    corner="bottom-left",
)
BLOCK: Final = 6  # frames, a fifth of a second: what a processor is loaded with is their mean


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table: what comes in and what is put behind the person."""

    size: str
    format: str
    background: str

    @property
    def name(self) -> str:
        return f"{self.size}-{self.format}-{self.background}"


def cases() -> list[Case]:
    """Every combination of size, format and background."""
    return [Case(s, f, b) for s in SIZES for f in FORMATS for b in BACKGROUNDS]


def run(options: argparse.Namespace) -> int:
    """`vcam bench`: measure, print a table or JSON, and return the exit code.

    Raises:
        UsageError: the options make no sense.
        ModelError: a model cannot be opened.
    """
    if options.frames < 1:
        raise UsageError("there is nothing to measure in no frames", hint="Give --frames 150.")
    if options.engine == "cuda":
        return _cuda(options)
    chosen = [case for case in cases() if not options.case or case.name in options.case]
    unknown = sorted(set(options.case or ()) - {case.name for case in cases()})
    if unknown:
        raise UsageError(
            f"there is no benchmark case {unknown[0]!r}",
            hint=f"Choose from {', '.join(case.name for case in cases())}.",
        )
    if options.look:
        found = measure_looks(chosen, frames=options.frames, model=options.model)
        if options.json:
            foreign_text.say(json.dumps(found, indent=2), limit=None)
        else:
            _print_looks(found)
        return 0
    report = measure(
        chosen,
        frames=options.frames,
        model=options.model,
        quality=options.quality,
        threads=options.threads,
        peer=options.peer,
        pipeline=options.peer_pipeline,
        progress=None if options.json else _say,
    )
    if options.json:
        foreign_text.say(json.dumps(report, indent=2), limit=None)
    else:
        _print(report)
    return 0


def measure(
    chosen: Sequence[Case],
    *,
    frames: int = 150,
    model: str = "auto",
    quality: str = "balanced",
    threads: int = 1,
    peer: str | None = None,
    pipeline: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Return the report that `vcam bench --json` prints."""
    started = _process_started()
    cv2.setNumThreads(1)
    segmenter = _open(model, quality, threads)
    other = _open(peer, quality, threads) if peer else None
    results: list[dict[str, Any]] = []
    start_s = 0.0
    try:
        for case in chosen:
            if progress:
                progress(case.name)
            loop = _Loop(case, segmenter)
            loop.step(0)
            if not start_s:
                start_s = loop.first_at - started
            if pipeline:
                shape = *SIZES[case.size], case.format, case.background
                with PeerPipeline(pipeline, *shape) as beside:
                    figures = _time(loop, frames, beside)
            else:
                figures = _time(loop, frames)
            if other:
                segmenter_cpu = figures["stages"].get("matte", 0.0)
                rival = _time(_Loop(case, other), frames)
                figures["peer_cpu_ms"] = rival["cpu_ms"]
                figures["peer_ratio"] = rival["ratio"]
                figures["peer_matte_ms"] = rival["stages"].get("matte", segmenter_cpu)
            results.append(figures)
        info = segmenter.info
    finally:
        segmenter.close()
        if other:
            other.close()
    return {
        "machine": machine(),
        "model": f"{info['model']} {info['precision']}",
        "peer": Path(peer).stem if peer else None,
        "threads": threads,
        "frames": frames,
        "cases": results,
        "rss_mb": round(rss_mb(), 1),
        "start_s": round(start_s, 2),
    }


def measure_looks(
    chosen: Sequence[Case], *, frames: int = 150, model: str = "auto"
) -> dict[str, Any]:
    """Return what each look costs: every frame is composed in all of them, in another order."""
    cv2.setNumThreads(1)
    results = []
    with contextlib.closing(_open(model, "balanced", 1)) as segmenter:
        for case in chosen:
            loop, (width, height) = _Loop(case, segmenter), SIZES[case.size]
            compositors = {name: Compositor(width, height) for name in LOOKS}
            for name in TAGGED:
                compositors[name].overlay = Tag(TAG, width, height).drawn("12:34")
            spent: dict[str, list[float]] = {name: [] for name in LOOKS}
            yardstick = []
            for i in range(-WARM_UP, frames):
                frame, matte = loop.matted(i + WARM_UP)
                for name in sorted(LOOKS, key=lambda _: loop.dice.random()):
                    at = time.process_time()
                    compositors[name].compose(frame, matte, loop.backdrop, LOOKS[name])
                    spent[name] += [time.process_time() - at] * (i >= 0)
                at = time.process_time()
                cv2.imdecode(np.frombuffer(loop.jpegs[i % PICTURES], np.uint8), cv2.IMREAD_COLOR)
                yardstick += [time.process_time() - at] * (i >= 0)
            decode = float(_middle(yardstick))
            for name, values in spent.items():
                extra = _middle(list(np.subtract(values, spent["off"]))) if name != "off" else 0.0
                results.append({
                    "name": case.name,
                    "look": name,
                    "compose_ms": round(float(_middle(values)) * 1000, 3),
                    "extra_ms": round(float(extra) * 1000, 3),
                    "ratio": round(float(_middle(values)) / decode, 3),
                })  # fmt: skip
    return {"machine": machine(), "frames": frames, "looks": results}


class _Loop:
    """One case, ready to be run frame by frame as the camera loop does."""

    def __init__(self, case: Case, segmenter: Segmenter) -> None:
        self.case = case
        width, height = SIZES[case.size]
        self.jpegs, self.yuyv = pack(width, height)
        self._segmenter = segmenter
        self._compositor = Compositor(width, height)
        self._decoder = MjpegDecoder()
        self._unpack = Unpacker(width, height).yuyv
        self.dice = random.Random(5)
        self.backdrop: Picture | Blur = Blur(50.0)
        if case.background == "picture":
            self.backdrop = i420_from_image(draw("studio", width, height))
        self._look = Look()
        self._sink = np.zeros(i420_shape(width, height), np.uint8)
        self.first_at = 0.0
        self.marks = np.zeros(5)

    def raw(self, index: int) -> bytes:
        """A frame as the webcam sends it."""
        if self.case.format == "mjpg":
            return self.jpegs[index % len(self.jpegs)]
        return self.yuyv[index % len(self.yuyv)].tobytes()

    def matted(self, index: int) -> tuple[Frame, Matte]:
        """A frame and its matte."""
        if self.case.format == "mjpg":
            planes = self._decoder.decode(self.jpegs[index % len(self.jpegs)])
        else:
            planes = self._unpack(self.yuyv[index % len(self.yuyv)])
        frame = Frame(planes, index / 30, index)
        return frame, self._segmenter.matte(planes, seq=index, pts=frame.pts)

    def step(self, index: int) -> None:
        """Take one frame from memory to the sink; `marks` are the CPU times between the stages."""
        clock = time.process_time
        marks = self.marks
        marks[0] = clock()
        if self.case.format == "mjpg":
            planes = self._decoder.decode(self.jpegs[index % len(self.jpegs)])
        else:
            planes = self._unpack(self.yuyv[index % len(self.yuyv)])
        marks[1] = clock()
        # As a webcam sends them: how fast they go round here must not tell how old a matte is.
        frame: Frame = Frame(planes, index / 30, index)
        matte = self._segmenter.matte(planes, seq=frame.seq, pts=frame.pts)
        marks[2] = clock()
        safe = self._compositor.compose(frame, matte, self.backdrop, self._look)
        marks[3] = clock()
        np.copyto(self._sink, safe.data)
        marks[4] = clock()
        self.first_at = self.first_at or time.time()


def _time(loop: _Loop, frames: int, beside: PeerPipeline | None = None) -> dict[str, Any]:
    """Run `frames` frames, each followed by the yardstick and the peer; the case's figures."""
    cpu, wall, yardstick, theirs = [], [], [], []
    stages: list[NDArray[np.float64]] = []
    buffers = [np.frombuffer(jpeg, np.uint8) for jpeg in loop.jpegs]
    for i in range(-WARM_UP, frames):
        before = time.perf_counter()
        loop.step(i + WARM_UP)
        elapsed = time.perf_counter() - before
        at = time.process_time()
        cv2.imdecode(buffers[i % len(buffers)], cv2.IMREAD_COLOR)
        decode = time.process_time() - at
        took = beside.step(loop.raw(i + WARM_UP)) if beside else 0.0
        if i >= 0:
            theirs.append(took)
            wall.append(elapsed)
            cpu.append(float(loop.marks[-1] - loop.marks[0]))
            stages.append(np.diff(loop.marks))
            yardstick.append(decode)
    middle = _middle(stages) * 1000
    cpu_ms, decode_ms = (float(_middle(x)) * 1000 for x in (cpu, yardstick))
    rival = float(_middle(theirs)) * 1000
    pipeline = {
        "pipeline_cpu_ms": round(rival, 3),
        "pipeline_ratio": round(rival / decode_ms, 3),
        "share_of_pipeline": round(cpu_ms / rival, 3) if rival else None,
    }
    return {
        **(pipeline if beside else {}),
        "name": loop.case.name,
        "cpu_ms": round(cpu_ms, 3),
        "wall_ms": round(float(_middle(wall)) * 1000, 3),
        "p95_ms": round(float(np.percentile(wall, 95)) * 1000, 3),
        "imdecode_cpu_ms": round(decode_ms, 3),
        "ratio": round(cpu_ms / decode_ms, 3),
        "stages": {
            name: round(float(ms), 3)
            for name, ms in zip(("decode", "matte", "compose", "write"), middle, strict=True)
        },
    }


def _middle(values: Sequence[Any]) -> Any:
    """The median over `BLOCK` frames' means: a frame in two is dearer, and both count alike."""
    whole = np.array(values[: max(1, len(values) // BLOCK) * BLOCK])
    blocks = np.array_split(whole, max(1, len(whole) // BLOCK))
    return np.median([block.mean(axis=0) for block in blocks], axis=0)


def pack(width: int, height: int) -> tuple[list[bytes], list[NDArray[np.uint8]]]:
    """Return the moving portrait as JPEGs (4:2:2) and as YUYV, as a webcam sends it."""
    from PIL import Image

    jpegs, packed = [], []
    with StillSource(width=width, height=height, realtime=False) as source:
        for _ in range(PICTURES):
            frame = source.read(0.0)
            assert frame is not None
            y, u, v = frame.planes.each
            data = np.concatenate([plane.reshape(-1) for plane in (y, u, v)])
            image = image_from_i420(data.reshape(i420_shape(width, height)))
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:2")
            jpegs.append(file.getvalue())
            yuyv = np.empty((height, width // 2, 4), np.uint8)
            yuyv[..., 0::2] = y.reshape(height, width // 2, 2)
            yuyv[..., 1] = u.repeat(2, axis=0)
            yuyv[..., 3] = v.repeat(2, axis=0)
            packed.append(yuyv.reshape(-1))
    return jpegs, packed


def machine() -> str:
    """The machine's processor and Python, in words."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} threads, {platform.system()} {platform.machine()}"


def rss_mb() -> float:
    """Memory this process holds, in megabytes; its peak where only that is known."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, AttributeError):
        pass
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _process_started() -> float:
    """Wall-clock time at which this process began, so that imports count as start-up."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        up = float(Path("/proc/uptime").read_text().split()[0])
        return time.time() - (up - int(fields[19]) / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, AttributeError):
        return time.time()


def _open(model: str, quality: str, threads: int) -> Segmenter:
    try:
        return Segmenter(model, Machine(threads=threads, cache_dir=cache_dir()), quality=quality)
    except SegmentationError as error:
        raise ModelError(error.message, hint=error.hint) from error


def _cuda(options: argparse.Namespace) -> int:
    """Measure the GPU and print JSON; the processor's table has other columns."""
    reason = nvidia.why_not()
    if reason:
        raise ModelError(f"CUDA cannot be used: {reason}", hint="Run `vcam bench`.")
    from vcam.commands import bench_gpu

    try:
        report = bench_gpu.measure(
            bench_gpu.Material(
                SIZES,
                pack,
                lambda width, height: i420_from_image(draw("studio", width, height)),
            ),
            frames=max(options.frames, 1000),
            check=options.check,
            model=options.model,
            say=_say,
        )
    except SegmentationError as error:
        raise ModelError(error.message, hint=error.hint) from error
    foreign_text.say(json.dumps(report, indent=2), limit=None)
    return 0


def _say(name: str) -> None:
    foreign_text.say(f"  {name} …", file=sys.stderr)


def _print_looks(report: dict[str, Any]) -> None:
    foreign_text.say(report["machine"])
    foreign_text.say(f"{'case':<22}{'look':>10}{'compose ms':>12}{'more ms':>10}{'ratio':>8}")
    for row in report["looks"]:
        foreign_text.say(
            f"{row['name']:<22}{row['look']:>10}{row['compose_ms']:>12.2f}"
            f"{row['extra_ms']:>10.2f}{row['ratio']:>7.2f}x"
        )
    foreign_text.say("ratio: CPU of a composite over that of cv2.imdecode of the same frame.")


def _print(report: dict[str, Any]) -> None:
    heads = ["CPU ms", "wall ms", "p95 ms", "imdecode ms", "ratio"]
    heads += ["decode", "matte", "compose", "write"]
    foreign_text.say(f"{report['machine']}\n{report['model']}, {report['threads']} thread(s)")
    foreign_text.say(f"{'case':<22}", *(f"{head:>11}" for head in heads))
    for case in report["cases"]:
        times = [case[key] for key in ("cpu_ms", "wall_ms", "p95_ms", "imdecode_cpu_ms")]
        cells = [f"{ms:.2f}" for ms in times] + [f"{case['ratio']:.2f}x"]
        cells += [f"{ms:.2f}" for ms in case["stages"].values()]
        foreign_text.say(f"{case['name']:<22}", *(f"{cell:>11}" for cell in cells))
        if "pipeline_ratio" in case:
            share = case["share_of_pipeline"] or 0.0
            foreign_text.say(
                f"{'  the peer':<22}", f"{case['pipeline_cpu_ms']:>11.2f}", " " * 35,
                f"{case['pipeline_ratio']:>10.2f}x", f"  ours is {share:.2f} of it",
            )  # fmt: skip
    foreign_text.say(
        f"Start to first composite {report['start_s']:.1f} s, memory {report['rss_mb']:.0f} MB.\n"
        "ratio: CPU of a frame over that of cv2.imdecode of the same frame, one thread."
    )
