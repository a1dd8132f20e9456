"""HEIC pictures, as phones take them: boxes taken apart here, tiles decoded by FFmpeg.

From ISO/IEC 23008-12 and 14496-12: coded pictures (HEVC, AV1), grids of them, turns, mirrors,
crops, colour and alpha. Every count and size that a file states is bounded before it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final

import av
import cv2
import numpy as np

from vcam.media.colour import Coding
from vcam.media.turns import Turn

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

META_MOST: Final = 4 << 20  # bytes of a description
ITEMS_MOST: Final = 8192
TILES_MOST: Final = 2048
CODED_MOST: Final = 128 << 20  # bytes of all coded tiles
TILE_MOST: Final = 36_000_000  # pixels decoded at once
CANVAS_MOST: Final = 100_000_000  # pixels of the picture put together
_CODECS: Final = {"hvc1": ("hevc", "hvcC"), "av01": ("libdav1d", "av1C")}
_ALPHA: Final = (b"urn:mpeg:hevc:2015:auxid:1", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha")


class HeifError(ValueError):
    """A picture that is damaged, or of a kind that is not read."""


@dataclass(slots=True)
class Item:
    """One picture or part of one."""

    kind: str = ""
    extents: list[tuple[int, int]] = field(default_factory=list)  # where, how long
    inside: bool = False  # in the description itself instead of the file
    properties: list[tuple[str, bytes]] = field(default_factory=list)

    def property(self, name: str) -> bytes | None:
        return next((data for kind, data in self.properties if kind == name), None)


@dataclass(slots=True)
class Heif:
    """Contents of a file, as its boxes describe them."""

    primary: int = 0
    items: dict[int, Item] = field(default_factory=dict)
    links: list[tuple[str, int, list[int]]] = field(default_factory=list)
    data: bytes = b""  # what lies in the description itself

    def linked(self, kind: str, source: int) -> list[int]:
        return [n for k, s, targets in self.links if (k, s) == (kind, source) for n in targets]


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture, upright; `alpha` is None where all of it is to be seen.

    Shapes:
        rgb: (H, W, 3) uint8, coded as `coding` and `profile` say
        alpha: (H, W) uint8
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None
    premultiplied: bool
    profile: bytes | None
    coding: Coding


def _boxes(data: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        header = 8
        if size == 1 and at + 16 <= len(data):
            (size,), header = struct.unpack_from(">Q", data, at + 8), 16
        elif size == 0:
            size = len(data) - at
        if size < header or at + size > len(data):
            raise HeifError("its description is damaged")
        yield name.decode("latin-1"), data[at + header : at + size]
        at += size


def describe(file: IO[bytes]) -> Heif:
    """Read what a file says about its pictures.

    Raises:
        HeifError: it is damaged.
    """
    file.seek(0)
    for _ in range(64):
        start = file.tell()
        header = file.read(16)
        if len(header) < 8:
            break
        size, name = struct.unpack_from(">I4s", header)
        length = 8
        if size == 1 and len(header) == 16:
            (size,), length = struct.unpack_from(">Q", header, 8), 16
        if name == b"meta":
            if not 12 <= size <= META_MOST:
                raise HeifError(f"its description is {size} bytes long")
            file.seek(start + length)
            try:
                return _meta(file.read(size - length)[4:])
            except (struct.error, IndexError) as error:
                raise HeifError("its description is damaged") from error
        if size < 8:
            break
        file.seek(start + size)
    raise HeifError("it describes no picture")


def _meta(data: bytes) -> Heif:
    found = Heif()
    for name, body in _boxes(data):
        version = body[0] if body else 0
        if name == "pitm":
            (found.primary,) = struct.unpack_from(">I" if version else ">H", body, 4)
        elif name == "iinf":
            for kind, entry in _boxes(body[8 if version else 6 :]):
                if kind == "infe" and entry[0] >= 2:
                    wide = entry[0] >= 3
                    (number,) = struct.unpack_from(">I" if wide else ">H", entry, 4)
                    at = 10 if wide else 8
                    _item(found, number).kind = entry[at : at + 4].decode("latin-1")
        elif name == "iref":
            _links(found, body[4:], ">I" if version else ">H")
        elif name == "iloc":
            _places(found, body)
        elif name == "iprp":
            _properties(found, body)
        elif name == "idat":
            found.data = body
    return found


def _item(found: Heif, number: int) -> Item:
    if number not in found.items and len(found.items) >= ITEMS_MOST:
        raise HeifError(f"it holds more than {ITEMS_MOST} parts")
    return found.items.setdefault(number, Item())


def _links(found: Heif, data: bytes, number: str) -> None:
    size = struct.calcsize(number)
    for kind, body in _boxes(data):
        (source,) = struct.unpack_from(number, body)
        (count,) = struct.unpack_from(">H", body, size)
        if count > TILES_MOST:
            raise HeifError(f"it is made of {count} tiles")
        targets = [struct.unpack_from(number, body, size + 2 + size * i)[0] for i in range(count)]
        found.links.append((kind, source, targets))


def _places(found: Heif, body: bytes) -> None:
    version = body[0]
    sizes = (body[4] >> 4, body[4] & 15, body[5] >> 4, body[5] & 15 if version else 0)
    wide = version == 2
    (count,) = struct.unpack_from(">I" if wide else ">H", body, 6)
    at = 10 if wide else 8
    for _ in range(min(count, ITEMS_MOST)):
        (number,) = struct.unpack_from(">I" if wide else ">H", body, at)
        at += 4 if wide else 2
        item = _item(found, number)
        if version:
            item.inside = body[at + 1] & 15 == 1
            at += 2
        at += 2
        base = int.from_bytes(body[at : at + sizes[2]], "big")
        at += sizes[2]
        (extents,) = struct.unpack_from(">H", body, at)
        at += 2
        for _ in range(extents):
            at += sizes[3]
            offset = int.from_bytes(body[at : at + sizes[0]], "big")
            length = int.from_bytes(body[at + sizes[0] : at + sizes[0] + sizes[1]], "big")
            at += sizes[0] + sizes[1]
            item.extents.append((base + offset, length))
            if at > len(body):
                raise HeifError("its description is damaged")


def _properties(found: Heif, data: bytes) -> None:
    known: list[tuple[str, bytes]] = []
    for name, body in _boxes(data):
        if name == "ipco":
            known = list(_boxes(body))[:ITEMS_MOST]
        elif name == "ipma":
            wide, large = body[0] >= 1, body[3] & 1
            (count,) = struct.unpack_from(">I", body, 4)
            at = 8
            for _ in range(min(count, ITEMS_MOST)):
                (number,) = struct.unpack_from(">I" if wide else ">H", body, at)
                at += 4 if wide else 2
                uses, at = body[at], at + 1
                for _ in range(uses):
                    index = int.from_bytes(body[at : at + 1 + large], "big")
                    index &= 0x7FFF if large else 0x7F
                    at += 1 + large
                    if 0 < index <= len(known):
                        _item(found, number).properties.append(known[index - 1])


def nclx(found: Heif, number: int) -> Coding | None:
    """The colour codes that a picture states, if it does."""
    for kind, data in found.items[number].properties if number in found.items else []:
        if kind == "colr" and data[:4] == b"nclx" and len(data) >= 11:
            primaries, transfer, matrix = struct.unpack_from(">3H", data, 4)
            return Coding(primaries, transfer, matrix, bool(data[10] & 0x80))
    return None


def size_of(found: Heif) -> tuple[int, int]:
    """Width and height as stated, before turns.

    Raises:
        HeifError: it states none.
    """
    item = found.items.get(found.primary)
    size = item.property("ispe") if item else None
    if size is None or len(size) < 12:
        raise HeifError("it describes no picture")
    w, h = struct.unpack_from(">2I", size, 4)
    return w, h


def shrink_for(found: Heif, bound: int) -> int:
    """By how much a picture may be scaled down while its tiles are put together: 1, 2, 4 or 8."""
    sizes = [size_of(found)]
    for number in found.linked("dimg", found.primary)[:1]:
        size = found.items[number].property("ispe") if number in found.items else None
        if size is not None and len(size) >= 12:
            sizes.append(struct.unpack_from(">2I", size, 4))
    shrink = 1
    while shrink < 8 and max(sizes[0]) >= 2 * shrink * bound:
        shrink *= 2
    while shrink > 1 and len(sizes) > 1 and any(side % shrink for side in sizes[1]):
        shrink //= 2
    return shrink


class Reader:
    """Decodes the picture a file shows first, scaled down by `shrink` (1, 2, 4 or 8) as it goes."""

    def __init__(self, file: IO[bytes], found: Heif, shrink: int) -> None:
        self._file, self._found, self._shrink = file, found, shrink
        self._left = CODED_MOST
        self._coding = nclx(found, found.primary)

    def read(self) -> Picture:
        """Decode it.

        Raises:
            HeifError: damaged, too large, or of a kind that is not read.
        """
        primary = self._found.primary
        rgb = self._decode(primary, "rgb24")
        alpha, premultiplied = None, False
        for kind, source, targets in self._found.links:
            if kind == "auxl" and primary in targets and source in self._found.items:
                about = self._found.items[source].property("auxC") or b""
                if about[4:].split(b"\0")[0] in _ALPHA:
                    alpha = self._decode(source, "gray")
                    premultiplied = source in self._found.linked("prem", primary)
        if alpha is not None and alpha.shape != rgb.shape[:2]:
            alpha = np.asarray(cv2.resize(alpha, rgb.shape[1::-1]), np.uint8)
        item = self._found.items[primary]
        profile = next(
            (d[4:] for k, d in item.properties if k == "colr" and d[:4] in (b"prof", b"rICC")), None
        )
        coding = self._coding or Coding()
        return Picture(
            self._placed(item, rgb),
            None if alpha is None else self._placed(item, alpha),
            premultiplied,
            profile,
            coding,
        )

    def _placed(self, item: Item, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Crop, turn and mirror, in the order the file states."""
        for kind, data in item.properties:
            if kind == "clap" and len(data) >= 32:
                image = self._cropped(image, data)
            elif kind == "irot" and data:  # quarters of a turn to the left
                for _ in range(data[0] & 3):
                    image = Turn(transpose=True, flip=True)(image)
            elif kind == "imir" and data:  # 0: about the horizontal axis, 1: the vertical one
                image = Turn(mirror=bool(data[0] & 1), flip=not data[0] & 1)(image)
        return image

    def _cropped(self, image: NDArray[np.uint8], data: bytes) -> NDArray[np.uint8]:
        wn, wd, hn, hd, xn, xd, yn, yd = struct.unpack_from(">4IiIiI", data)
        if not (wd and hd and xd and yd):
            return image
        h, w = image.shape[:2]
        width, height = wn / wd / self._shrink, hn / hd / self._shrink
        left = (w - width) / 2 + xn / xd / self._shrink
        top = (h - height) / 2 + yn / yd / self._shrink
        x, y = max(0, round(left)), max(0, round(top))
        part = image[y : y + max(1, round(height)), x : x + max(1, round(width))]
        return part if part.size else image

    def _decode(self, number: int, pixels: str) -> NDArray[np.uint8]:
        item = self._found.items.get(number)
        if item is None:
            raise HeifError("it lacks a part of its picture")
        if item.kind == "grid":
            return self._grid(number, item, pixels)
        if item.kind not in _CODECS:
            raise HeifError(f"its picture is of the kind {item.kind!r}, which is not read")
        return self._shown(item, pixels)

    def _grid(self, number: int, item: Item, pixels: str) -> NDArray[np.uint8]:
        data = self._bytes(item)
        if len(data) < 8:
            raise HeifError("its grid is damaged")
        rows, columns = data[2] + 1, data[3] + 1
        width, height = struct.unpack_from(">2I" if data[1] & 1 else ">2H", data, 4)
        tiles = self._found.linked("dimg", number)
        shrink = self._shrink
        w, h = -(-width // shrink), -(-height // shrink)
        if len(tiles) < rows * columns or not 0 < w * h <= CANVAS_MOST:
            raise HeifError(f"its grid of {rows * columns} tiles, {width}x{height}, is damaged")
        canvas = np.zeros((h, w, 3)[: 3 if pixels == "rgb24" else 2], np.uint8)
        for i, tile in enumerate(tiles[: rows * columns]):
            part = self._decode_tile(tile, pixels)
            th, tw = part.shape[:2]
            y, x = i // columns * th, i % columns * tw
            room = canvas[y : y + th, x : x + tw]
            room[:] = part[: room.shape[0], : room.shape[1]]
        return canvas

    def _decode_tile(self, number: int, pixels: str) -> NDArray[np.uint8]:
        item = self._found.items.get(number)
        if item is None or item.kind not in _CODECS:
            raise HeifError("its grid is made of what is not read")
        return self._shown(item, pixels)

    def _bytes(self, item: Item) -> bytes:
        parts = []
        for start, length in item.extents:
            if length > self._left:
                raise HeifError("its parts are too large")
            self._left -= length
            if item.inside:
                parts.append(self._found.data[start : start + length])
            else:
                self._file.seek(start)
                parts.append(self._file.read(length))
        return b"".join(parts)

    def _coded(self, item: Item) -> VideoFrame:
        name, setting = _CODECS[item.kind]
        size, header = item.property("ispe"), item.property(setting)
        if size is None or len(size) < 12 or header is None:
            raise HeifError("it lacks what its picture is decoded by")
        w, h = struct.unpack_from(">2I", size, 4)
        if not 0 < w * h <= TILE_MOST:
            raise HeifError(f"a part of it is {w}x{h}, expected at most 36 megapixels")
        try:
            context: VideoCodecContext = av.CodecContext.create(name, "r")  # type: ignore[assignment]
            context.extradata = header
            context.thread_count = 1
            context.options = {"max_pixels": str((w + 128) * (h + 128))}
            frames = [*context.decode(av.Packet(self._bytes(item))), *context.decode(None)]
        except (av.FFmpegError, OSError, ValueError) as error:
            raise HeifError(f"its picture cannot be decoded: {error}") from error
        if not frames or frames[0].width < w or frames[0].height < h:
            raise HeifError("its picture cannot be decoded")
        return frames[0]

    def _shown(self, item: Item, pixels: str) -> NDArray[np.uint8]:
        frame, shrink = self._coded(item), self._shrink
        w, h = -(-frame.width // shrink), -(-frame.height // shrink)
        full = frame.format.name.startswith("yuvj") or int(frame.color_range) != 1
        matrix = int(frame.colorspace)
        if self._coding is not None and pixels == "rgb24":
            full = self._coding.full_range
            matrix = self._coding.matrix
        if pixels == "gray" and frame.format.name.startswith("gray"):
            full = True
        shown = frame.reformat(
            w,
            h,
            pixels,
            src_colorspace={1: 1, 4: 4, 7: 7, 9: 9, 10: 9}.get(matrix, 5),
            dst_colorspace=5,
            src_color_range=2 if full else 1,
            dst_color_range=2,
            interpolation="AREA" if shrink > 1 else "BICUBIC",
        )
        plane = shown.planes[0]
        flat: NDArray[np.uint8] = np.frombuffer(memoryview(plane), np.uint8)
        channels = 3 if pixels == "rgb24" else 1
        lines = flat.reshape(plane.height, plane.line_size)[:, : w * channels].copy()
        image = lines.reshape(h, w, 3) if channels == 3 else lines
        stated = struct.unpack_from(">2I", item.property("ispe") or b"", 4)
        return image[: -(-stated[1] // shrink), : -(-stated[0] // shrink)]
