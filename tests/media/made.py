"""Pictures made byte by byte, so that a test knows what they say and a bomb costs nothing."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import av
import numpy as np
from PIL import Image


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def zeros(count: int) -> bytes:
    """So many zero bytes, deflated: one piece again and again, so that it takes no time."""
    piece = 1 << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    once = packer.compress(bytes(piece)) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    rest = packer.compress(bytes(count % piece)) + packer.flush()
    check = struct.pack(">2H", count % 65521, 1)
    return b"\x78\x9c" + once * (count // piece) + rest + check


def png(
    width: int,
    height: int,
    colour: int = 2,
    depth: int = 8,
    *,
    line: bytes | None = None,
    extra: tuple[tuple[bytes, bytes], ...] = (),
    interlaced: bool = False,
    rows: int | None = None,
) -> bytes:
    """A PNG whose lines are all `line`, black if None; only `rows` of them are there."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    size = -(-width * channels * depth // 8)
    rows = height if rows is None else rows
    packed = zeros(rows * (size + 1)) if line is None else zlib.compress((b"\0" + line) * rows)
    head = struct.pack(">2I5B", width, height, depth, colour, 0, 0, interlaced)
    palette = ((b"PLTE", bytes(range(256)) * 3),) if colour == 3 else ()
    parts = ((b"IHDR", head), *palette, *extra, (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(n, d) for n, d in parts)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(width: int, height: int, mode: str = "RGB", **options: object) -> bytes:
    """A JPEG that says it is as large as asked, and holds a small picture."""
    small = bytearray(saved(Image.new(mode, (64, 64)), "JPEG", **options))
    at = 2
    while small[at + 1] not in (0xC0, 0xC2):
        at += 2 + int.from_bytes(small[at + 2 : at + 4], "big")
    small[at + 5 : at + 9] = struct.pack(">2H", height, width)
    return bytes(small)


def tiff(width: int, height: int, tags: dict[int, tuple[int, ...]], data: bytes) -> bytes:
    """A little-endian TIFF of one strip or tile; `tags` outrank the usual ones."""
    usual: dict[int, tuple[int, ...]] = {
        256: (width,),
        257: (height,),
        258: (8,),
        259: (8,),
        262: (1,),
        273: (8,),
        277: (1,),
        278: (height,),
        279: (len(data),),
    }
    usual.update(tags)
    at = 8 + len(data)
    entries, more = b"", b""
    behind = at + 2 + 12 * len(usual) + 4
    for tag in sorted(usual):
        values = usual[tag]
        kind, code = (3, "H") if tag in (258, 259, 262, 277, 338, 339) else (4, "I")
        packed = struct.pack(f"<{len(values)}{code}", *values)
        if len(packed) > 4:
            packed, more = struct.pack("<I", behind + len(more)), more + packed
        entries += struct.pack("<2HI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    return (
        b"II*\0" + struct.pack("<I", at) + data
        + struct.pack("<H", len(usual)) + entries + struct.pack("<I", 0) + more
    )  # fmt: skip


def box(name: str, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + name.encode() + body


def full(name: str, version: int, flags: int, *parts: bytes) -> bytes:
    return box(name, struct.pack(">I", version << 24 | flags), *parts)


def coded(image: np.ndarray, *, grey: bool = False) -> tuple[bytes, bytes]:
    """One picture in HEVC: its decoder's record, and itself with lengths instead of marks."""
    h, w = image.shape[:2]
    options = {"x265-params": "log-level=none:qp=4:keyint=1:info=0:repeat-headers=0"}
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx265", rate=1, options=options)
        stream.width, stream.height = w, h
        stream.pix_fmt = "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 6, 2
        frame = av.VideoFrame.from_ndarray(image, "gray" if grey else "rgb24")
        frame = frame.reformat(
            format="yuv444p", dst_colorspace=5, dst_color_range=2, src_color_range=2
        )
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer) as container:
        stream = container.streams.video[0]
        packet = next(p for p in container.demux(stream) if p.size)
        return bytes(stream.codec_context.extradata), bytes(packet)


def heic(
    tiles: list[np.ndarray],
    columns: int,
    size: tuple[int, int],
    *,
    properties: tuple[bytes, ...] = (),
    alpha: np.ndarray | None = None,
    premultiplied: bool = False,
    repeat: int = 1,
) -> bytes:
    """A HEIC whose picture is a grid of `tiles` (or one alone if `columns` is 0), as phones write.

    `repeat` names every tile that often, which costs the file nothing.
    """
    pieces = [coded(tile) for tile in tiles]
    if alpha is not None:
        pieces.append(coded(alpha, grey=True))
    count = len(pieces)
    grid = count + 1
    primary = grid if columns else 1
    th, tw = tiles[0].shape[:2]
    common = [box("hvcC", record) for record, _ in pieces]
    known = [*common, full("ispe", 0, 0, struct.pack(">2I", tw, th))]
    known.append(full("ispe", 0, 0, struct.pack(">2I", *size)))
    uses = {n + 1: [n + 1, count + 1] for n in range(count)}
    uses[primary] = uses.get(primary, []) if not columns else [count + 2]
    for extra in properties:
        known.append(extra)
        uses[primary].append(len(known))
    if alpha is not None:
        known.append(full("auxC", 0, 0, b"urn:mpeg:hevc:2015:auxid:1\0"))
        ah, aw = alpha.shape
        known.append(full("ispe", 0, 0, struct.pack(">2I", aw, ah)))
        uses[count] = [count, len(known), len(known) - 1]
    names = [(n + 1, b"hvc1") for n in range(count)] + ([(grid, b"grid")] if columns else [])
    infos = [full("infe", 2, 0, struct.pack(">2H", n, 0), kind, b"\0") for n, kind in names]
    links = b""
    of_grid = [n + 1 for n in range(len(tiles))] * repeat
    if columns:
        numbers = struct.pack(f">{len(of_grid)}H", *of_grid)
        links += box("dimg", struct.pack(">2H", grid, len(of_grid)), numbers)
    if alpha is not None:
        links += box("auxl", struct.pack(">3H", count, 1, primary))
        if premultiplied:
            links += box("prem", struct.pack(">3H", primary, 1, count))
    rows = len(of_grid) // columns if columns else 1
    grid_data = struct.pack(">4B2I", 0, 1, rows - 1, max(columns, 1) - 1, *size)
    ipma = b"".join(
        struct.pack(">HB", n, len(all_)) + bytes(all_) for n, all_ in sorted(uses.items())
    )

    def meta(start: int) -> bytes:
        places, at = b"", start
        for n, (_, data) in enumerate(pieces):
            places += struct.pack(">4H2I", n + 1, 0, 0, 1, at, len(data))
            at += len(data)
        if columns:
            places += struct.pack(">4H2I", grid, 1, 0, 1, 0, len(grid_data))
        return full(
            "meta", 0, 0,
            full("hdlr", 0, 0, b"\0\0\0\0pict", bytes(13)),
            full("pitm", 0, 0, struct.pack(">H", primary)),
            full("iloc", 1, 0, b"\x44\x00", struct.pack(">H", len(names)), places),
            full("iinf", 0, 0, struct.pack(">H", len(infos)), *infos),
            full("iref", 0, 0, links) if links else b"",
            box(
                "iprp",
                box("ipco", *known),
                full("ipma", 0, 0, struct.pack(">I", len(uses)), ipma),
            ),
            box("idat", grid_data) if columns else b"",
        )  # fmt: skip

    start = box("ftyp", b"heic\0\0\0\0mif1heic")
    offset = len(start) + len(meta(0)) + 8
    return start + meta(offset) + box("mdat", *(data for _, data in pieces))


def bombs() -> Iterator[tuple[str, bytes]]:
    """Hostile pictures: small files that ask for gigabytes, or lie about what they hold."""
    sizes = ((5000, 5000), (11000, 11000), (11500, 11500), (13000, 13000), (60000, 2000))
    for w, h in sizes:
        for colour, depth in ((0, 8), (0, 16), (2, 8), (2, 16), (3, 8), (4, 8), (6, 8), (6, 16)):
            yield f"{w}x{h}-{colour}-{depth}.png", png(w, h, colour, depth)
        yield f"{w}x{h}-keyed.png", png(w, h, 2, extra=((b"tRNS", bytes(6)),))
        yield f"{w}x{h}.webp", _webp(w, h)
        yield f"{w}x{h}.gif", _gif(w, h)
        yield f"{w}x{h}.bmp", _bmp(w, h)
        for mode in ("L", "RGB", "CMYK"):
            yield f"{w}x{h}-{mode}.jpg", jpeg(w, h, mode)
        yield f"{w}x{h}-progressive.jpg", jpeg(w, h, progressive=True, subsampling=0)
        strip = zeros(w * h)
        yield f"{w}x{h}-strip.tif", tiff(w, h, {}, strip)
        yield f"{w}x{h}-float.tif", tiff(w, h, {258: (32,), 339: (3,)}, zeros(4 * w * h))
    yield "one-bit.png", png(13000, 13000, 0, 1)
    yield "interlaced.png", png(11000, 11000, 2, interlaced=True)
    yield "tall.png", png(1, 60000)
    yield "wide.png", png(60000, 1)
    yield "largest.png", png(2**31 - 1, 2**31 - 1, rows=1, line=b"\0")
    yield "largest.jpg", jpeg(65500, 65500)
    yield "rgb.tif", tiff(11000, 11000, {258: (8, 8, 8), 262: (2,), 277: (3,)}, zeros(363_000_000))
    yield (
        "tiled.tif",
        tiff(
            11000,
            11000,
            {322: (60000,), 323: (60000,), 324: (8,), 325: (99,)},
            zlib.compress(bytes(9999)),
        ),
    )
    tile = np.full((512, 512, 3), 90, np.uint8)
    yield "grid.heic", heic([tile], 20, (9728, 8192), repeat=320)
    yield "lies.heic", heic([tile], 2, (60000, 60000), repeat=4)
    yield "text.png", png(8, 8, extra=((b"zTXt", b"a\0\0" + zeros(1 << 30)),))
    yield "profile.png", png(8, 8, extra=((b"iCCP", b"a\0\0" + zeros(1 << 30)),))


def _webp(width: int, height: int) -> bytes:
    """Lossless, of one colour, its size overwritten."""
    data = bytearray(saved(Image.new("RGB", (64, 64)), "WEBP", lossless=True))
    at = data.index(b"VP8L") + 9
    bits = int.from_bytes(data[at : at + 4], "little") & ~0xFFFFFFF
    bits |= (min(width, 16383) - 1) | (min(height, 16383) - 1) << 14
    data[at : at + 4] = bits.to_bytes(4, "little")
    return bytes(data)


def _gif(width: int, height: int) -> bytes:
    data = bytearray(saved(Image.new("P", (64, 64)), "GIF"))
    data[6:10] = struct.pack("<2H", width, height)
    at = data.index(b"\x2c", 13)
    data[at + 5 : at + 9] = struct.pack("<2H", width, height)
    return bytes(data)


def _bmp(width: int, height: int) -> bytes:
    """Run lengths, of which there are none: the picture is black."""
    head = struct.pack("<I2i2H2I2i2I", 40, width, height, 1, 8, 1, 2, 0, 0, 256, 0)
    return b"BM" + struct.pack("<3I", 1080, 0, 14 + 40 + 1024) + head + bytes(1024) + b"\0\1"
