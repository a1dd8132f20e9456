"""Clips one picture after the other, by FFmpeg: one file, one demuxer, decoders from a list.

No network, no playlist, nothing that names other files: FFmpeg is told the one demuxer that the
file's content asks for, and the protocol "file" alone.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

import av
from av.codec.context import ThreadType

from vcam.errors import SourceError
from vcam.media import shown
from vcam.media.colour import Coding

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from segmentation.planes import Planes
    from vcam.media.formats import Format

log = logging.getLogger(__name__)

# Sizes above this are more likely a damaged header than a clip.
MAX_PIXELS: Final = 8192 * 4320
LARGE: Final = 2560 * 1440  # above it pictures are not decoded side by side: each takes megabytes
BAD_MOST: Final = 200  # damaged packets in a row after which a clip counts as ended
SILENT_MOST: Final = 5000  # packets without a picture after which it does
PROBE: Final = {"probesize": "8000000", "analyzeduration": "8000000", "max_streams": "64"}
# Decoders of what cameras, phones and editors make; FFmpeg has five hundred, many of them old.
_DECODERS: Final = """
h264 hevc vvc av1 libdav1d vp8 vp9 libvpx libvpx-vp9 mpeg1video mpeg2video mpeg4 msmpeg4
msmpeg4v2 h263 flv vp6 vp6f vp6a theora mjpeg png prores dnxhd cfhd ffv1 huffyuv ffvhuff
utvideo magicyuv qtrle rawvideo v210 dvvideo wmv1 wmv2 wmv3 vc1 svq1 svq3 cinepak rpza hap
"""
DECODERS: Final = frozenset(_DECODERS.split())
_WITH_ALPHA: Final = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # decoders that know their alpha
_CONVERT: Final = "Convert it: ffmpeg -i FILE -c:v libx264 out.mp4"


def open_container(path: Path, found: Format, options: dict[str, str]) -> InputContainer:
    """The file at `path` as what its content says it is, and no other file or protocol with it.

    Raises:
        OSError, ValueError, av.FFmpegError: it cannot be opened.
    """
    return av.open(
        f"file:{path.absolute()}",
        "r",
        format=found.reader.split(",")[0],
        options={"max_pixels": str(MAX_PIXELS)},
        container_options={
            "protocol_whitelist": "file",
            "format_whitelist": found.reader,
            **options,
        },
    )


class Stream:
    """The pictures of a clip in the order they are shown. Owned by one thread.

    Raises:
        SourceError: it cannot be opened, holds no picture, or its codec is not read.
    """

    def __init__(self, path: Path, found: Format, cover: tuple[int, int] | None = None) -> None:
        self._path, self._found, self._cover = path, found, cover
        self._open()
        stream = self._stream
        rate = stream.average_rate or stream.guessed_rate
        self.fps = float(rate) if rate else 30.0
        if not 0.5 <= self.fps <= 1000:
            self.fps = 30.0
        duration, base = stream.duration, stream.time_base
        self.frames = stream.frames or (
            round(float(duration * base) * self.fps) if duration and base else 0
        )
        self.size = (stream.width, stream.height)

    def _open(self) -> None:
        self._container = self._opened()
        try:
            self._stream = self._chosen()
            self._context = self._decoder()
        except BaseException:
            self._container.close()
            raise
        context = self._stream.codec_context
        pixel = self._stream.sample_aspect_ratio or context.sample_aspect_ratio or Fraction(1)
        coding = Coding(
            int(getattr(context, "color_primaries", 2)),
            int(getattr(context, "color_trc", 2)),
            int(context.colorspace),
            int(context.color_range) == 2,
        )
        self._hints = shown.Hints(coding, Fraction(pixel), self._cover)
        self._iterator = self._pictures()

    def _opened(self) -> InputContainer:
        try:
            return open_container(
                self._path, self._found, {"codec_whitelist": ",".join(sorted(DECODERS)), **PROBE}
            )
        except (OSError, ValueError, av.FFmpegError) as error:
            raise SourceError(
                f"{str(self._path)!r} cannot be read as a clip: {reason(error)}",
                hint="Give a video file that plays in a media player.",
            ) from error

    def _chosen(self) -> VideoStream:
        """The first stream that moves: a cover of a song is a picture too."""
        covers = False
        for stream in self._container.streams.video:
            if stream.disposition & av.stream.Disposition.attached_pic:
                covers = True
            else:
                return stream
        holds = "sound and the picture of a cover" if covers else "no picture"
        if not covers and self._container.streams.audio:
            holds = "sound alone"
        raise SourceError(
            f"{str(self._path)!r} holds {holds}", hint="Give a clip that has a picture."
        )

    def _decoder(self) -> VideoCodecContext:
        context = self._stream.codec_context
        if context is None or not context.width or not context.height:
            name = context.name if context is not None else _codec_named_in(self._path)
            name = f"the codec {name!r}" if name else "an unknown codec"
            raise SourceError(
                f"{str(self._path)!r} is {self._found.noun} in {name}, which cannot be decoded",
                hint=_CONVERT,
            )
        if context.name not in DECODERS:
            raise SourceError(
                f"{str(self._path)!r} is coded as {context.codec.long_name!r}, which is not read",
                hint=_CONVERT,
            )
        width, height = context.width, context.height
        if width * height > MAX_PIXELS:
            raise SourceError(
                f"{str(self._path)!r} is {width}x{height}, expected at most 8192x4320",
                hint="Scale the clip down first.",
            )
        name = context.codec.canonical_name
        if self._stream.metadata.get("alpha_mode") == "1" and name in _WITH_ALPHA:
            context = self._alpha_decoder(_WITH_ALPHA[name], name)
        else:
            context.thread_type = ThreadType.SLICE if width * height > LARGE else ThreadType.AUTO
        context.options = {"max_pixels": str(MAX_PIXELS)}
        return context

    def _alpha_decoder(self, decoder: str, name: str) -> VideoCodecContext:
        try:
            made: VideoCodecContext = av.CodecContext.create(decoder, "r")  # type: ignore[assignment]
        except (av.FFmpegError, ValueError) as error:
            raise SourceError(
                f"{str(self._path)!r} is transparent in parts, which cannot be decoded in {name}",
                hint="Convert it: ffmpeg -i FILE -c:v libvpx-vp9 out.webm",
            ) from error
        return made

    def _pictures(self) -> Iterator[VideoFrame]:
        bad = silent = 0
        for packet in self._container.demux(self._stream):
            try:
                found = self._context.decode(packet)
            except av.FFmpegError:
                bad += 1
                if bad > BAD_MOST or packet.size == 0:
                    raise
                continue
            silent = 0 if found else silent + 1
            if silent > SILENT_MOST:
                return
            if found:
                bad = 0
            yield from found

    def rewind(self) -> None:
        """Begin again.

        Raises:
            SourceError: the file is not there any more, or another.
        """
        self.close()
        self._open()

    def next(self) -> tuple[Planes, float | None]:
        """The next picture's planes, and its time as the file states it.

        Raises:
            EOFError: there is none.
            SourceError: what follows is damaged.
        """
        try:
            picture = next(self._iterator)
        except StopIteration:
            raise EOFError(str(self._path)) from None
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceError(
                f"{str(self._path)!r} cannot be decoded: {reason(error)}",
                hint="Give a video file that plays in a media player.",
            ) from error
        self.size = shown.shown_size(picture, self._hints)
        return shown.planes(picture, self._hints), picture.time

    def close(self) -> None:
        """Close the file and free its decoder: its threads, and the pictures it keeps.

        The iterator's frame refers to `self`, so only a collection would free them otherwise.
        """
        self._iterator = iter(())
        self._container.close()
        for name in ("_stream", "_context"):
            self.__dict__.pop(name, None)


# How files name the codec of their pictures: four letters in MP4 and AVI, a word in Matroska.
_NAMED_IN: Final = re.compile(
    rb"vide.{20,400}?stsd.{12}([\w .-]{4})|vids([\w .-]{4})|\x86.(V_[A-Z0-9/_]{2,40})", re.DOTALL
)
_LOOKED_AT: Final = 4 << 20  # bytes from each end of the file


def _codec_named_in(path: Path) -> str:
    """Name that a file gives a codec that FFmpeg does not know, "" if that cannot be found."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        ends = file.read(_LOOKED_AT)
        file.seek(max(len(ends), file.seek(0, io.SEEK_END) - _LOOKED_AT))
        match = _NAMED_IN.search(ends + file.read(_LOOKED_AT))
        if match:
            return next(word for word in match.groups() if word).decode("latin-1").strip()
    return ""


def reason(error: Exception) -> str:
    """An error in a few words, without paths."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
