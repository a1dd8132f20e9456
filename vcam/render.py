"""`vcam render`: the same path from pixels to composite, offline: pictures, folders, clips."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from segmentation.errors import SegmentationError
from vcam.backgrounds import Room, open_backdrop
from vcam.compositor import Compositor, Look, alpha_at
from vcam.errors import BackgroundError, ModelError, SourceError, UsageError, VcamError
from vcam.frame import Frame
from vcam.media import formats, pictures
from vcam.media.clip import ClipSource
from vcam.sinks.file import FileSink

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segmentation.segmenter import Segmenter
    from vcam.config import Config

log = logging.getLogger(__name__)

Report = Callable[[str, int, int], None]  # what, done, total (0 if unknown)
LONGEST: Final = 6144  # pixels of a picture's longer side; larger ones are scaled down


def render(
    source: Path, output: Path | None, config: Config, *, alpha: Path | None, report: Report
) -> int:
    """Render `source` into `output` and its mattes into the folder `alpha`; return the failures.

    A folder is rendered picture by picture; one that cannot be read is told of and left out.

    Raises:
        VcamError: nothing can be rendered.
    """
    if not source.exists():
        raise UsageError(
            f"{str(source)!r} does not exist", hint="Give a picture, a folder of them or a clip."
        )
    if alpha is not None:
        _make_folder(alpha)
    if source.is_dir():
        return _render_folder(source, output, config, alpha, report)
    if formats.readable(source, SourceError).kind != "picture":
        if output is not None:
            formats.check_output(output, "clip")
        _render_clip(source, output, config, alpha, report)
    else:
        if output is not None:
            formats.check_output(output, "picture")
        with _Stills(config) as stills:
            stills.render(source, output, alpha)
        report(source.name, 1, 1)
    return 0


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{str(path)!r} cannot be made a folder: {error.strerror}",
            hint="Give a folder you may write to.",
        ) from error


def _open(config: Config, *, still: bool) -> Segmenter:
    from segmentation.segmenter import Segmenter
    from vcam.paths import cache_dir

    # Offline there is time: the largest input unless the user chose one, and every core.
    quality = "high" if config.matte.quality == "auto" else config.matte.quality
    try:
        return Segmenter(
            config.matte.model,
            engine=config.matte.engine,
            threads=config.matte.threads,
            quality=quality,
            smoothing=config.matte.smoothing,
            people=config.matte.people,
            still=still,
            cache_dir=cache_dir(),
        )
    except SegmentationError as error:
        raise ModelError(error.message, hint=error.hint) from error


class _Stills:
    """Renders single pictures with one segmenter."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def __enter__(self) -> _Stills:
        self._segmenter = _open(self._config, still=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._segmenter.close()

    def render(self, source: Path, output: Path | None, alpha: Path | None) -> None:
        image = pictures.read_image(source, bound=LONGEST)
        h, w = image.shape[:2]
        if max(h, w) == LONGEST:
            log.warning("%s: rendered at %dx%d, the most there is", source.name, w, h)
        frame = _frame(np.pad(image, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge"))
        del image
        self._segmenter.reset()
        if alpha is not None:
            matte = self._segmenter.matte(
                frame.y, frame.u, frame.v, full_range=False, seq=0, pts=0.0
            )
            _save_alpha(alpha_at(matte, frame.y)[:h, :w], alpha / f"{source.stem}.png")
        if output is None:
            return
        composed = _composite(self._segmenter, frame, self._config)
        _save_image(pictures.image_from_i420(composed)[:h, :w], output)


def _frame(image: NDArray[np.uint8]) -> Frame:
    data = pictures.i420_from_image(np.ascontiguousarray(image))
    h, w = image.shape[:2]
    flat = data.reshape(-1)
    u = flat[h * w : h * w * 5 // 4].reshape(h // 2, w // 2)
    v = flat[h * w * 5 // 4 :].reshape(h // 2, w // 2)
    return Frame(data[:h], u, v, False, 0.0, 0)


def _composite(segmenter: Segmenter, frame: Frame, config: Config) -> NDArray[np.uint8]:
    compositor = Compositor(frame.width, frame.height)
    backdrop = open_backdrop(
        config.background.use, frame.width, frame.height, blur=config.background.blur
    )
    try:
        behind = backdrop.at(0.0)
        look = _look(config)
        if isinstance(behind, Room):
            return compositor.reveal(frame, look).data
        matte = segmenter.matte(
            frame.y, frame.u, frame.v, full_range=frame.full_range, seq=frame.seq, pts=frame.pts
        )
        return compositor.compose(frame, matte, behind, look).data
    finally:
        backdrop.close()


def _look(config: Config) -> Look:
    return Look(
        light_wrap=config.background.light_wrap,
        decontaminate=config.background.decontaminate,
        mirror=config.camera.mirror,
    )


def _render_folder(
    source: Path, output: Path | None, config: Config, alpha: Path | None, report: Report
) -> int:
    files = sorted(f for f in source.iterdir() if f.is_file() and formats.wanted(f))
    if not files:
        raise UsageError(
            f"{str(source)!r} holds no pictures",
            hint="Give a folder with pictures in it.",
        )
    if output is not None:
        _make_folder(output)
    failures = 0
    with _Stills(config) as stills:
        for i, file in enumerate(files):
            target = None if output is None else output / f"{file.stem}.png"
            try:
                stills.render(file, target, alpha)
            except BackgroundError as error:
                failures += 1
                log.error("left out: %s", error)
            report(file.name, i + 1, len(files))
    if failures == len(files):
        raise SourceError(
            f"none of the {failures} pictures in {str(source)!r} could be read",
            hint="Open one in a picture viewer.",
        )
    return failures


def _render_clip(
    source: Path, output: Path | None, config: Config, alpha: Path | None, report: Report
) -> None:
    with ClipSource(source, live=False) as clip:
        first = clip.read(0)
        assert first is not None
        width, height = first.width, first.height
        segmenter = _open(config, still=False)
        backdrop = open_backdrop(config.background.use, width, height, blur=config.background.blur)
        compositor = Compositor(width, height)
        look = _look(config)
        turned = (clip.size[0] > clip.size[1]) != (width > height)
        w, h = clip.size[::-1] if turned else clip.size
        sink = None
        if output is not None:
            sink = FileSink(output, width, height, clip.fps, offline=True).__enter__()
        try:
            for done, frame in enumerate(_frames(clip, first)):
                if (frame.width, frame.height) != (width, height):
                    continue  # a clip that changes size in the middle: rare, and damaged
                matte = segmenter.matte(
                    frame.y,
                    frame.u,
                    frame.v,
                    full_range=frame.full_range,
                    seq=frame.seq,
                    pts=frame.pts,
                )
                if alpha is not None:
                    _save_alpha(alpha_at(matte, frame.y)[:h, :w], alpha / f"{done:06d}.png")
                if sink is not None:
                    behind = backdrop.at(frame.pts)
                    if isinstance(behind, Room):
                        sink.write(compositor.reveal(frame, look))
                    else:
                        sink.write(compositor.compose(frame, matte, behind, look))
                report(source.name, done + 1, max(clip.frames, done + 1))
        except SegmentationError as error:
            raise ModelError(error.message, hint=error.hint) from error
        finally:
            backdrop.close()
            segmenter.close()
            if sink is not None:
                sink.__exit__(None, None, None)


def _frames(clip: ClipSource, first: Frame) -> Iterator[Frame]:
    yield first
    while True:
        try:
            frame = clip.read(0)
        except EOFError:
            return
        assert frame is not None
        yield frame


def _save_alpha(alpha: NDArray[np.float32], path: Path) -> None:
    grey = np.empty(alpha.shape, np.uint8)
    for top in range(0, len(alpha), 256):  # a large picture would take gigabytes at once
        grey[top : top + 256] = np.rint(alpha[top : top + 256] * 255)
    _save_image(grey, path)


def _save_image(image: NDArray[np.uint8], path: Path) -> None:
    try:
        Image.fromarray(image).save(path)
    except (OSError, ValueError) as error:
        raise VcamError(
            f"{str(path)!r} cannot be written: {error}",
            hint="Give a name that ends in .png or .jpg in a folder you may write to.",
        ) from error
