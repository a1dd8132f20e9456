"""Which kind of file it is, by how it starts: the names of `vcam.media.formats`' table."""

from __future__ import annotations

from typing import Final, Literal

HEAD: Final = 64 * 1024  # bytes from the start of a file that its kind is judged by

_STARTS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"FUJIFILMCCD-RAW", "camera raw"),
    (b"IIRO", "camera raw"),
    (b"IIRS", "camera raw"),
    (b"MMOR", "camera raw"),
    (b"IIU\x00", "camera raw"),
    (b"\x1aE\xdf\xa3", "Matroska"),
    (b"\x00\x00\x01\xba", "MPEG-PS"),
    (b"\x00\x00\x01\xb3", "MPEG video"),
    (b"FLV\x01", "Flash video"),
    (b"0&\xb2u\x8ef\xcf\x11", "Windows Media"),
    (b"\x06\x0e+4\x02\x05\x01\x01\x0d\x01\x02", "MXF"),
    (b"YUV4MPEG2", "Y4M"),
    (b"DKIF", "IVF"),
    (b".RMF", "RealMedia"),
    (b"FWS", "Flash"),
    (b"CWS", "Flash"),
    (b"ZWS", "Flash"),
    (b"%!", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"8BPS", "Photoshop"),
    (b"gimp xcf", "GIMP"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"\x00\x00\x01\x00", "icon"),
    (b"\x00\x00\x02\x00", "icon"),
    (b"icns", "icon"),
    (b"qoif", "other picture"),
    (b"DDS ", "other picture"),
    (b"BPG\xfb", "other picture"),
    (b"\xd7\xcd\xc6\x9a", "other picture"),
    (b"AT&TFORM", "other picture"),
    (b"ID3", "MP3"),
    (b"fLaC", "FLAC"),
    (b"#!AMR", "AMR"),
    (b"MThd", "MIDI"),
    (b"#EXTM3U", "playlist"),
    (b"[playlist]", "playlist"),
    (b"ffconcat version", "playlist"),
    (b"WEBVTT", "subtitles"),
    (b"[Script Info]", "subtitles"),
    (b"v=0\r\n", "stream description"),
    (b"v=0\n", "stream description"),
    (b"Rar!", "archive"),
    (b"7z\xbc\xaf", "archive"),
    (b"\x1f\x8b", "archive"),
    (b"\xfd7zXZ", "archive"),
    (b"BZh", "archive"),
    (b"\x28\xb5\x2f\xfd", "archive"),
    (b"\xd0\xcf\x11\xe0", "document"),
    (b"\x7fELF", "program"),
    (b"MZ", "program"),
    (b"#!", "program"),
    (b"\xcf\xfa\xed\xfe", "program"),
)
# Brands of files in boxes (ISO/IEC 14496-12): the first of these that a file names decides.
_BRANDS: Final[tuple[tuple[frozenset[bytes], str], ...]] = (
    (frozenset({b"avis"}), "animated AVIF"),
    (frozenset({b"avif"}), "AVIF"),
    (frozenset({b"heic", b"heix", b"heim", b"heis"}), "HEIC"),
    (frozenset({b"hevc", b"hevx", b"msf1"}), "HEIF sequence"),
    (frozenset({b"mif1", b"mif2"}), "HEIC"),
    (frozenset({b"crx "}), "camera raw"),
    (frozenset({b"jp2 ", b"jpx "}), "JPEG 2000"),
    (frozenset({b"M4A ", b"M4B ", b"M4P ", b"F4A "}), "M4A"),
)
_BOXES: Final = {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"uuid"}


def name_of(head: bytes) -> str:
    """The table's name of the kind of file that starts with `head`."""
    if not head:
        return "empty"
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _webp(head) if head[8:12] == b"WEBP" else _RIFF[head[8:12]]
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "animated PNG" if png_chunk(head, b"acTL") is not None else "PNG"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "animated GIF"  # `look` knows better for those of one picture
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff(head)
    if head[4:8] == b"ftyp":
        return _boxed(head)
    for start, name in _STARTS:
        if head.startswith(start):
            return _matroska(head) if name == "Matroska" else name
    if head[4:8] in _BOXES:
        return "QuickTime"
    return _streamed(head) or _zipped(head) or _written(head) or "unknown"


def _webp(head: bytes) -> str:
    moves = head[12:16] == b"VP8X" and len(head) > 20 and head[20] & 2
    return "animated WebP" if moves else "WebP"


def _tiff(head: bytes) -> str:
    """TIFF, or a camera's raw picture, which is a TIFF whose first picture is a thumbnail."""
    if head[8:10] == b"CR":
        return "camera raw"
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    at = int.from_bytes(head[4:8], order)
    tags = {}
    for i in range(int.from_bytes(head[at : at + 2], order)):
        entry = head[at + 2 + 12 * i : at + 14 + 12 * i]
        if len(entry) < 12:
            break
        tags[int.from_bytes(entry[:2], order)] = int.from_bytes(entry[8:12], order)
    small = tags.get(254, 0) & 1 and 330 in tags  # a reduced picture first, others beside it
    return "camera raw" if 50706 in tags or small else "TIFF"


def _boxed(head: bytes) -> str:
    size = int.from_bytes(head[:4], "big")
    names = head[8 : min(max(size, 16), 4096)]
    major = names[:4]
    brands = {major, *(names[i : i + 4] for i in range(8, len(names) - 3, 4))}
    for found in ({major}, brands):
        for wanted, name in _BRANDS:
            if wanted & found and (name != "HEIC" or b"avif" not in brands):
                return name
    if major[:3] in (b"3gp", b"3g2", b"3ge", b"3gg"):
        return "3GP"
    return "QuickTime" if major == b"qt  " else "MP4"


def _matroska(head: bytes) -> str:
    return "WebM" if b"webm" in head[:64] else "Matroska"


def _streamed(head: bytes) -> str:
    """Streams without a header of their own."""
    for start, step in ((0, 188), (4, 192), (0, 204)):
        marks = head[start : start + 3 * step + 1 : step]
        if len(marks) >= 2 and set(marks) == {0x47}:
            return "MPEG-TS"
    at = 4 if head[:4] == b"\0\0\0\1" else 3 if head[:3] == b"\0\0\1" else 0
    if at and len(head) > at + 1:
        if head[at] & 0x9F in (7, 9):  # a parameter set or a delimiter
            return "H.264 stream"
        if head[at] & 0x81 == 0 and head[at] >> 1 in (32, 33, 35):
            return "H.265 stream"
    if head[:4] == b"OggS":
        return "Ogg video" if b"theora" in head[:512] or b"OVP80" in head[:512] else "Ogg sound"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC"
    if head[:2] in _MP3_MARKS:
        return "MP3"
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0" and head[14:18] in _BMP_HEADERS:
        return "BMP"
    if head[:1] == b"P" and head[1:2] in b"1234567fF" and head[2:3] in (b"\n", b" ", b"\r", b"\t"):
        return "other picture"
    return "DICOM" if head[128:132] == b"DICM" else ""


_MP3_MARKS: Final = {
    bytes([0xFF, mark]) for mark in (0xE2, 0xE3, 0xF2, 0xF3, 0xFA, 0xFB, 0xFC, 0xFD)
}
_RIFF: Final = {b"WEBP": "WebP", b"AVI ": "AVI", b"WAVE": "WAV"}
_BMP_HEADERS: Final = {bytes([n, 0, 0, 0]) for n in (12, 16, 40, 52, 56, 64, 108, 124)}
_OFFICE: Final = (b"word/", b"xl/", b"ppt/", b"mimetypeapplication/", b"[Content_Types].xml")


def _zipped(head: bytes) -> str:
    if head[:4] in (b"PK\3\4", b"PK\5\6"):
        return "document" if any(mark in head[:4096] for mark in _OFFICE) else "ZIP"
    return "archive" if head[257:262] == b"ustar" else ""


def _written(head: bytes) -> str:
    """Kinds of text; "" if it is none."""
    if head[:5] == b"%PDF-" or b"%PDF-" in head[:1024]:
        return "PDF"
    cut = head[: HEAD - 4]  # a letter may be cut off at the end
    codec = "utf-16" if cut[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = cut[: len(cut) // 2 * 2].decode(codec) if codec == "utf-16" else cut.decode(codec)
    except UnicodeDecodeError:
        return ""
    if any(ord(c) < 32 and c not in "\t\n\r\f\x1b" for c in text):
        return ""
    low = text.lstrip()[:4096].lower()
    for mark, name in (
        ("<svg", "SVG"),
        ("<mpd", "playlist"),
        ("<smil", "playlist"),
        ("<asx", "playlist"),
        ("<!doctype html", "web page"),
        ("<html", "web page"),
    ):
        if mark in low and low.startswith("<"):
            return name
    for mark, name in _TEXTS:
        if low.startswith(mark):
            return name
    return "subtitles" if low[:1].isdigit() and " --> " in low[:64] else "text"


_TEXTS: Final = (
    ("#extm3u", "playlist"),
    ("[playlist]", "playlist"),
    ("ffconcat version", "playlist"),
    ("file '", "playlist"),
    ("webvtt", "subtitles"),
    ("[script info]", "subtitles"),
    ("v=0", "stream description"),
    ("%!ps", "EPS"),
    ("#!", "program"),
)


def png_chunk(head: bytes, wanted: bytes) -> bytes | None:
    """Content of a PNG's chunk before its pixels, None if it has none of that name."""
    at = 8
    while at + 8 <= len(head):
        size, name = int.from_bytes(head[at : at + 4], "big"), head[at + 4 : at + 8]
        if name == wanted:
            return head[at + 8 : at + 8 + size]
        if name == b"IDAT":
            return None
        at += 12 + size
    return None


def gif_moves(data: bytes) -> bool:
    """True if a GIF has a second picture, or more than the data at hand tells."""
    at = 13 + (3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 0x80 else 0)
    pictures = 0
    while at < len(data):
        mark = data[at]
        if mark == 0x3B:
            return False
        if mark == 0x2C:
            pictures += 1
            if pictures > 1:
                return True
            local = data[at + 9] if at + 9 < len(data) else 0
            at += 11 + (3 << (local & 7) + 1 if local & 0x80 else 0)
        elif mark == 0x21:
            at += 2
        else:
            return False
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    return False
