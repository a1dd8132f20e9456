"""Everything of a clip that is not its picture, on its way into another: sound, subtitles, tags.

Packets are copied as they are wherever the new container takes them, at the same distance from the
picture as before. What cannot be kept is told of.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import av
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.subtitles.stream import SubtitleStream

from vcam.files.whole import printable, reason
from vcam.media import formats
from vcam.media.stream import open_container

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from typing_extensions import Self

    AnyPacket = Packet[Stream]
    Packets = Callable[[AnyPacket], Iterable[AnyPacket]]

log = logging.getLogger(__name__)

# Sound that is copied into containers that may hold more than their players play, or do not say
# what they may hold; other sound is made AAC.
_EVERYWHERE: Final = {"aac", "mp3", "mp3float", "ac3", "eac3", "opus", "libopus"}
_PLAYED: Final = {
    "mp4": _EVERYWHERE | {"alac", "flac"},
    "mpegts": _EVERYWHERE | {"mp2", "mp2float", "dca"},
}
_RATES: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_BITS: Final = 96_000  # a second and channel, of sound that has to be made AAC
# Tags that are copied. Where a clip was taken is not among them: it says more than the room does.
_TAGS: Final = (
    "title", "artist", "album", "author", "comment", "description", "copyright", "date", "genre",
    "creation_time",
)  # fmt: skip
_STREAM_TAGS: Final = ("language", "title", "handler_name")
SHORT: Final = 1.0  # seconds a clip may lack of what it announces before it counts as cut off


class Tracks:
    """The other streams of the clip at `source`. Open on entry, closed on exit, one thread.

    `lead` is when the picture begins in the new clip, in seconds: it is not 0 where sound comes
    first. `picture_end` and `cut_off` say how far the clip goes, once all of it was read. A clip
    that cannot be opened has no other streams, which is told of.
    """

    def __init__(self, source: Path) -> None:
        self._source = source
        self.lead = 0.0
        self.picture_end = 0.0  # seconds from the first picture to the last picture's packet
        self.cut_off = False  # the file ends before the time it announces
        self._ways: dict[int, Packets] = {}  # by the stream's index
        self._flush: list[Callable[[], Iterable[AnyPacket]]] = []
        self._held: AnyPacket | None = None
        self._container: InputContainer | None = None
        self._packets: Iterator[AnyPacket] = iter(())

    def __enter__(self) -> Self:
        try:
            found = formats.look(self._source)
            with open_container(self._source, found, {}) as first:
                self._first = float(next(first.decode(video=0)).time or 0.0)
            self._container = open_container(self._source, found, {})
        except (OSError, ValueError, StopIteration, IndexError, av.FFmpegError) as error:
            log.warning("no sound can be read from %s: %s", printable(self._source), reason(error))
            return self
        starts = [_begin(stream) for stream in self._container.streams.audio]
        begin = min([self._first, *(start for start in starts if start is not None)])
        self._origin = begin
        self.lead = self._first - begin
        self._packets = self._demuxed(self._container)
        return self

    def __exit__(self, *_: object) -> None:
        if self._container is not None:
            self._container.close()

    def attach(self, out: OutputContainer) -> None:
        """Make a stream in `out` for each one that can be kept; tell of those that cannot."""
        if self._container is None:
            return
        for tag in _TAGS:
            if tag in self._container.metadata:
                out.metadata[tag] = self._container.metadata[tag]
        for stream in self._container.streams:
            if isinstance(stream, AudioStream) and not _is_empty(stream):
                self._attach_sound(stream, out)
            elif isinstance(stream, SubtitleStream):
                self._attach_subtitles(stream, out)

    def until(self, seconds: float) -> list[AnyPacket]:
        """Every packet that belongs before `seconds` of the new clip, ready to be written."""
        found: list[AnyPacket] = []
        while True:
            packet = self._held or next(self._packets, None)
            self._held = None
            if packet is None:
                return found
            if self._time(packet) - self._origin > seconds:
                self._held = packet
                return found
            if packet.stream.index in self._ways:
                found += self._ways[packet.stream.index](packet)

    def rest(self) -> list[AnyPacket]:
        """Every packet that is left."""
        found = self.until(float("inf"))
        for flush in self._flush:
            found += flush()
        return found

    def _demuxed(self, container: InputContainer) -> Iterator[AnyPacket]:
        """Every packet of the clip; takes down how far it goes on the way."""
        end = 0.0
        picture = container.streams.video[0].index
        try:
            for packet in container.demux():
                if not packet.time_base or (packet.dts is None and packet.pts is None):
                    continue
                at = self._time(packet)
                last = float((packet.duration or 0) * packet.time_base)
                end = max(end, at + last)
                if packet.stream.index == picture:
                    self.picture_end = max(self.picture_end, at - self._first)
                yield packet
        except (OSError, av.FFmpegError) as error:
            log.warning("%s breaks off: %s", printable(self._source), reason(error))
            self.cut_off = True
        announced = container.duration
        if announced and end:
            begin = (container.start_time or 0) / av.time_base
            lacks = announced / av.time_base - (end - begin)
            self.cut_off |= lacks > max(SHORT, 0.02 * announced / av.time_base)

    def _time(self, packet: AnyPacket) -> float:
        ticks = packet.dts if packet.pts is None else packet.pts
        return float((ticks or 0) * packet.time_base)

    def _shifted(self, packet: AnyPacket) -> AnyPacket:
        ticks = round(self._origin / packet.time_base)
        if packet.pts is not None:
            packet.pts -= ticks
        if packet.dts is not None:
            packet.dts -= ticks
        return packet

    def _attach_sound(self, stream: AudioStream, out: OutputContainer) -> None:
        name = getattr(stream.codec_context, "name", "unknown")
        if name in _PLAYED.get(out.format.name, out.supported_codecs):
            with contextlib.suppress(ValueError, av.FFmpegError):
                self._copy(stream, out)
                return
        try:
            self._ways[stream.index] = self._encode(stream, out)
        except (ValueError, TypeError, AttributeError, av.FFmpegError) as error:
            log.warning(
                "the sound of %s is left out: %s cannot be put into %s (%s)",
                printable(self._source), name, out.format.name, reason(error),
            )  # fmt: skip

    def _attach_subtitles(self, stream: SubtitleStream, out: OutputContainer) -> None:
        name = getattr(stream.codec_context, "name", "unknown")
        # MP4 is written in pieces that wait for every stream, and subtitles may come late.
        if out.format.name == "matroska" and name in out.supported_codecs:
            with contextlib.suppress(ValueError, av.FFmpegError):
                self._copy(stream, out)
                return
        log.warning(
            "the subtitles (%s) of %s are left out; a name that ends in .mkv may keep them",
            name, printable(self._source),
        )  # fmt: skip

    def _copy(self, stream: AudioStream | SubtitleStream, out: OutputContainer) -> None:
        copy = out.add_stream_from_template(stream)
        _tag(stream, copy)
        # Where sound was broadcast each packet has a header of its own, which MP4 keeps just once.
        filtered = None
        if out.format.name in ("mp4", "mov") and _is_adts(stream):
            filtered = BitStreamFilterContext("aac_adtstoasc", stream)

        def take(packet: AnyPacket) -> Iterable[AnyPacket]:
            packet = self._shifted(packet)
            packets = [packet] if filtered is None else filtered.filter(packet)
            for one in packets:
                one.stream = copy
            return packets

        self._ways[stream.index] = take

    def _encode(self, stream: AudioStream, out: OutputContainer) -> Packets:
        """Add an AAC stream to `out` and return what turns packets of `stream` into its own."""
        rate = next((r for r in _RATES if r <= stream.rate), 8000)
        layout = stream.layout.name if stream.layout.nb_channels in (1, 2, 6) else "stereo"
        made = out.add_stream("aac", rate=rate, layout=layout)
        made.codec_context.bit_rate = _BITS * made.layout.nb_channels
        _tag(stream, made)
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)

        def encoded(frames: Sequence[AudioFrame | None]) -> Iterator[AnyPacket]:
            for frame in frames:
                for part in resampler.resample(frame):
                    yield from made.encode(part)

        def take(packet: AnyPacket) -> Iterable[AnyPacket]:
            try:
                frames = self._shifted(packet).decode()
            except av.FFmpegError as error:
                log.warning("sound at %.1f s is damaged: %s", self._time(packet), reason(error))
                return []
            return encoded([frame for frame in frames if isinstance(frame, av.AudioFrame)])

        def flush() -> Iterator[AnyPacket]:
            yield from encoded([*stream.decode(None), None])
            yield from made.encode(None)

        self._flush.append(flush)
        return take


class NoTracks(Tracks):
    """The streams beside an animated picture: none."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def attach(self, out: OutputContainer) -> None:
        pass

    def until(self, seconds: float) -> list[AnyPacket]:
        return []


def _begin(stream: AudioStream) -> float | None:
    if stream.start_time is None or stream.time_base is None:
        return None
    return float(stream.start_time * stream.time_base)


def _is_empty(stream: AudioStream) -> bool:
    """True for a track that says it has nothing in it."""
    return stream.start_time is None and not stream.frames and not stream.duration


def _is_adts(stream: Stream) -> bool:
    context = stream.codec_context
    return context is not None and context.name == "aac" and not context.extradata


def _tag(old: Stream, new: Stream) -> None:
    for tag in _STREAM_TAGS:
        if tag in old.metadata:
            new.metadata[tag] = old.metadata[tag]
    with contextlib.suppress(AttributeError, ValueError):
        new.disposition = old.disposition
