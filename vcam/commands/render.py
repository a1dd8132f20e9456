"""`vcam render`: the same path from pixels to composite, offline: pictures, folders, clips."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import av
import numpy as np
from PIL import Image

from segmentation.errors import SegmentationError
from segmentation.planes import i420
from segmentation.segmenter import Machine, Segmenter
from vcam.commands.options import load_config
from vcam.compose.backdrops import open_backdrop
from vcam.compose.compositor import Compositor, alpha_at, look_of
from vcam.errors import BackgroundError, ModelError, SourceError, UsageError, VcamError
from vcam.files import targets, watched
from vcam.files.encode import ClipFile, picture_of
from vcam.files.tracks import SHORT, NoTracks, Tracks
from vcam.files.whole import printable, reason, write_file
from vcam.foreign_text import log_to, plain, say
from vcam.frame import Frame
from vcam.media import formats, pictures
from vcam.media.clip import ClipSource
from vcam.overlay.tag import Tag
from vcam.settings.choice import Reveal
from vcam.system.interrupt import Interrupt
from vcam.system.paths import backgrounds_dir, cache_dir, expanded
from vcam.words import _

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vcam.compose.backdrops import Backdrop
    from vcam.settings.config import Config

log = logging.getLogger(__name__)

Report = Callable[[str, int, int], None]  # what, done, total (0 if unknown)
LONGEST: Final = 6144  # pixels of a picture's longer side; larger ones are scaled down


def render(
    source: Path,
    output: Path | None,
    config: Config,
    *,
    alpha: Path | None,
    report: Report,
    force: bool = False,
) -> int:
    """Render `source` into `output` and its mattes into the folder `alpha`; return the failures.

    A folder is rendered picture by picture; one that cannot be read is told of and left out. What
    is there already is replaced only by `force`, and what is read never.

    Raises:
        VcamError: nothing can be rendered, or what was asked for would destroy something.
        Stopped: a signal ended it; what was done so far is kept.
    """
    if not source.exists():
        raise UsageError(
            f"{printable(source)} does not exist",
            hint="Give a picture, a folder of them or a clip.",
        )
    if not source.is_dir() and not source.is_file():
        raise UsageError(
            f"{printable(source)} is a device or a pipe", hint="Give a picture, a folder or a clip."
        )
    reads = [source, *_read_besides(config)]
    with Interrupt() as interrupt:
        job = _Job(config, reads, alpha, report, force, interrupt)
        if source.is_dir():
            return _render_folder(source, output, job)
        if output is not None:
            targets.check_file(output, reads, force=force)
        targets.check_folders(source, None, alpha)
        if formats.readable(source, SourceError).kind != "picture":
            _render_clip(source, output, job)
        else:
            _render_picture(source, output, job)
    return 0


@dataclass(frozen=True, slots=True)
class _Job:
    """Arguments of one call of `render`."""

    config: Config
    reads: list[Path]  # files that must stay as they are
    alpha: Path | None
    report: Report
    force: bool
    interrupt: Interrupt


def _read_besides(config: Config) -> list[Path]:
    """Files that may be read beside the source: backgrounds and the privacy card."""
    wish = config.background.choice
    # A name that is no preset may be a file's.
    named = (getattr(wish, "path", getattr(wish, "name", "")), config.privacy.card)
    kept = backgrounds_dir()
    files = [expanded(name) for name in named if name]
    return files + (sorted(kept.iterdir()) if kept.is_dir() else [])


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{printable(path)} cannot be made a folder: {reason(error)}",
            hint="Give a folder you may write to.",
        ) from error


def _open(config: Config, *, still: bool) -> Segmenter:
    # Offline there is time: the largest input unless the user chose one, and every core.
    quality = "high" if config.matte.quality == "auto" else config.matte.quality
    try:
        return Segmenter(
            config.matte.model,
            Machine(config.matte.engine, config.matte.threads, cache_dir=cache_dir()),
            quality=quality,
            smoothing=config.matte.smoothing,
            people=config.matte.people,
            still=still,
        )
    except SegmentationError as error:
        raise ModelError(error.message, hint=error.hint) from error


class _Stills:
    """Renders single pictures with one segmenter."""

    def __init__(self, config: Config, *, force: bool) -> None:
        self._config = config
        self._force = force

    def __enter__(self) -> _Stills:
        self._segmenter = _open(self._config, still=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._segmenter.close()

    def render(self, source: Path, output: Path | None, matte_path: Path | None) -> None:
        """Render one picture into `output`, and its matte into `matte_path`."""
        image = pictures.read_image(source, bound=LONGEST)
        h, w = image.shape[:2]
        if max(h, w) == LONGEST:
            log.warning("%s: rendered at %dx%d, the most there is", source.name, w, h)
        frame = _frame(np.pad(image, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge"))
        del image
        self._segmenter.reset()
        if matte_path is not None:
            matte = self._segmenter.matte(frame.planes, seq=0, pts=0.0)
            _save_alpha(alpha_at(matte, frame.planes.y)[:h, :w], matte_path, force=self._force)
        if output is None:
            return
        composed = _composite(self._segmenter, frame, self._config)
        _save_image(pictures.image_from_i420(composed)[:h, :w], output, force=self._force)


def _frame(image: NDArray[np.uint8]) -> Frame:
    return Frame(i420(pictures.i420_from_image(np.ascontiguousarray(image))), 0.0, 0)


def _composite(segmenter: Segmenter, frame: Frame, config: Config) -> NDArray[np.uint8]:
    compositor = _compositor(config, frame.width, frame.height)
    backdrop = _open_behind(config, frame.width, frame.height)
    look = look_of(config, backdrop.lit_from if backdrop else "")
    if backdrop is None:
        return compositor.reveal(frame, look).data
    try:
        behind = backdrop.at(0.0)
        matte = segmenter.matte(frame.planes, seq=frame.seq, pts=frame.pts)
        return compositor.compose(frame, matte, behind, look).data
    finally:
        backdrop.close()


def _compositor(config: Config, width: int, height: int) -> Compositor:
    """Draws composites, with the name tag; a clock would tell when this was rendered."""
    compositor = Compositor(width, height)
    compositor.overlay = Tag(config.overlay, width, height).drawn()
    return compositor


def _open_behind(config: Config, width: int, height: int) -> Backdrop | None:
    """The background; None where the room itself was asked for."""
    use = config.background.choice
    if isinstance(use, Reveal):
        return None
    watched.watch(config.background.folder)
    return open_backdrop(use, width, height, blur=config.background.blur)


def _render_picture(source: Path, output: Path | None, job: _Job) -> None:
    matte_path = None if job.alpha is None else job.alpha / f"{source.stem}.png"
    if output is not None:
        formats.check_output(output, "picture")
    if matte_path is not None:
        targets.check_files([matte_path], job.reads, force=job.force)
        if output is not None:
            targets.check_distinct(output, matte_path)
        _make_folder(matte_path.parent)
    with _Stills(job.config, force=job.force) as stills:
        stills.render(source, output, matte_path)
    job.report(source.name, 1, 1)


def _render_folder(source: Path, output: Path | None, job: _Job) -> int:
    files = sorted(f for f in source.iterdir() if f.is_file() and formats.wanted(f))
    if not files:
        raise UsageError(
            f"{printable(source)} holds no pictures",
            hint="Give a folder with pictures in it.",
        )
    targets.check_folders(source, output, job.alpha)
    names = targets.names_for(files)
    folders = [folder for folder in (output, job.alpha) if folder is not None]
    made = [folder / name for folder in folders for name in names.values()]
    targets.check_files(made, [*files, *job.reads], force=job.force)
    for folder in folders:
        _make_folder(folder)
    failures = 0
    with _Stills(job.config, force=job.force) as stills:
        for i, file in enumerate(files):
            job.interrupt.check(f"{i} of {len(files)} pictures, which are whole")
            target = None if output is None else output / names[file]
            matte_path = None if job.alpha is None else job.alpha / names[file]
            try:
                stills.render(file, target, matte_path)
            except BackgroundError as error:
                failures += 1
                log.error("left out: %s", error)
            job.report(file.name, i + 1, len(files))
    if failures == len(files):
        raise SourceError(
            f"none of the {failures} pictures in {printable(source)} could be read",
            hint="Open one in a picture viewer.",
        )
    return failures


def _render_clip(source: Path, output: Path | None, job: _Job) -> None:
    if output is not None:
        formats.check_output(output, "clip")
    if job.alpha is not None:
        targets.check_files(targets.mattes_in(job.alpha), job.reads, force=job.force)
        _make_folder(job.alpha)
    with contextlib.ExitStack() as opened:
        clip = opened.enter_context(ClipSource(source, live=False))
        first = clip.read(0)
        assert first is not None
        moves = formats.look(source).kind == "clip"
        tracks = opened.enter_context(Tracks(source) if moves else NoTracks(source))
        segmenter = _open(job.config, still=False)
        opened.callback(segmenter.close)
        if output is None:
            last = _pump(clip, first, segmenter, job, None, tracks)
        else:
            with _towards(output, first, clip.fps, job) as file:
                tracks.attach(file.container)
                last = _pump(clip, first, segmenter, job, file, tracks)
                file.add(tracks.rest())
                _check_whole(source, tracks, last)
                file.finish()
                _settle(file, output, force=job.force)
            return
        tracks.rest()
        _check_whole(source, tracks, last)


def _pump(
    clip: ClipSource,
    first: Frame,
    segmenter: Segmenter,
    job: _Job,
    file: ClipFile | None,
    tracks: Tracks,
) -> float:
    """Render every frame of `clip` into `file` and its mattes; return the last one's time."""
    config, width, height = job.config, first.width, first.height
    backdrop = _open_behind(config, width, height)
    compositor = _compositor(config, width, height)
    look = look_of(config, backdrop.lit_from if backdrop else "")
    w, h = clip.size
    last = 0.0
    try:
        for done, frame in enumerate(_frames(clip, first)):
            job.interrupt.check(f"{done} frames")
            last = frame.pts
            if (frame.width, frame.height) != (width, height):
                continue  # a clip that changes size in the middle: rare, and damaged
            matte = segmenter.matte(frame.planes, seq=frame.seq, pts=frame.pts)
            if job.alpha is not None:
                path = job.alpha / f"{done:06d}.png"
                _save_alpha(alpha_at(matte, frame.planes.y)[:h, :w], path, force=job.force)
            if file is not None:
                if backdrop is None:
                    composed = compositor.reveal(frame, look)
                else:
                    behind = backdrop.at(frame.pts)
                    composed = compositor.compose(frame, matte, behind, look)
                at = tracks.lead + frame.pts
                file.add(tracks.until(at))
                file.write(picture_of(composed), at)
            job.report(clip.path.name, done + 1, max(clip.frames, done + 1))
    except SegmentationError as error:
        raise ModelError(error.message, hint=error.hint) from error
    finally:
        if backdrop is not None:
            backdrop.close()
    return last


@contextlib.contextmanager
def _towards(output: Path, first: Frame, fps: float, job: _Job) -> Iterator[ClipFile]:
    """Open the clip that becomes `output`; if it does not, what plays of it stays, named a part."""
    target = Path(os.path.realpath(output))
    part = target.with_name(f"{target.stem}.part{target.suffix}")
    try:
        with ClipFile(part, first.width, first.height, fps, live=False) as file:
            try:
                yield file
            except BaseException:
                if not file.failed:
                    with contextlib.suppress(OSError, av.FFmpegError):
                        file.finish()
                if file.path is not None:
                    log.warning("%.1f s are kept in %s", file.seconds, printable(file.path))
                raise
    except (OSError, av.FFmpegError) as error:
        raise VcamError(
            f"{printable(output)} cannot be written: {reason(error)}",
            hint="Free some space, or give a name in a folder you may write to.",
        ) from error


def _settle(file: ClipFile, output: Path, *, force: bool) -> None:
    """Give the finished clip the name that was asked for."""
    target = Path(os.path.realpath(output))
    got = file.become(target, replace=force)
    if got != target:
        raise VcamError(
            f"{printable(output)} was made by another program meanwhile",
            hint=f"The whole clip is {printable(got)}.",
        )


def _check_whole(source: Path, tracks: Tracks, last: float) -> None:
    """Refuse to call a clip rendered that breaks off before its end."""
    if tracks.cut_off or tracks.picture_end - last > SHORT:
        raise SourceError(
            f"{printable(source)} is damaged and breaks off after {last:.1f} s",
            hint="Copy it again from where it came from.",
        )


def _frames(clip: ClipSource, first: Frame) -> Iterator[Frame]:
    yield first
    while True:
        try:
            frame = clip.read(0)
        except EOFError:
            return
        assert frame is not None
        yield frame


def _save_alpha(alpha: NDArray[np.float32], path: Path, *, force: bool) -> None:
    grey = np.empty(alpha.shape, np.uint8)
    for top in range(0, len(alpha), 256):  # a large picture would take gigabytes at once
        grey[top : top + 256] = np.rint(alpha[top : top + 256] * 255)
    _save_image(grey, path, force=force)


def _format_of(path: Path) -> str | None:
    known = Image.registered_extensions().get(path.suffix.lower())
    return known if known in Image.SAVE else None


def _save_image(image: NDArray[np.uint8], path: Path, *, force: bool) -> None:
    content = io.BytesIO()
    try:
        Image.fromarray(image).save(content, _format_of(path))
        write_file(path, content.getvalue(), replace=force)
    except FileExistsError as error:
        raise VcamError(
            f"{printable(path)} was made by another program meanwhile",
            hint="Give another name, or --force to replace what is there.",
        ) from error
    except (OSError, ValueError) as error:
        raise VcamError(
            f"{printable(path)} cannot be written: {reason(error)}",
            hint="Free some space, or give a name in a folder you may write to.",
        ) from error


def run(options: argparse.Namespace) -> int:
    """`vcam render`: the exit code, 1 if some pictures could not be read."""
    if options.output is None and options.alpha is None:
        raise UsageError("render has nowhere to write to", hint="Give -o OUTPUT or --alpha DIR.")
    config = load_config(options)
    log_to([logging.StreamHandler()], "WARNING", "vcam: %(message)s")
    report = _progress()
    try:
        failures = render(
            options.input,
            options.output,
            config,
            alpha=options.alpha,
            report=report,
            force=options.force,
        )
    finally:
        report("", 1, 1)
    if options.output is not None:
        say(_("wrote {0}", plain(options.output, None)))
    if options.alpha is not None:
        say(_("wrote mattes to {0}", plain(options.alpha, None)))
    return 1 if failures else 0


def _progress() -> Callable[[str, int, int], None]:
    """Tell how far the work is, in one line of a terminal that is wiped at the end."""
    begun = last = time.monotonic()

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        now, ended = time.monotonic(), bool(total) and done >= total
        if not sys.stderr.isatty() or (now - last < 0.1 and not ended):
            return
        last = now
        left = f", {(now - begun) / done * (total - done):.0f} s left" if done and total else ""
        line = "" if ended else f"{what}: {done} of {total or '?'}{left}"
        sys.stderr.write(f"\r\x1b[K{plain(line, 76)}")
        sys.stderr.flush()

    return report
