"""The kinds of file there are: recognised by content, read by whom, or refused in which words.

One table for backgrounds, sources and `vcam render`; `docs/formats.md` is made from it.
"""

from __future__ import annotations

import functools
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from vcam.errors import BackgroundError, SourceError, UsageError, VcamError

HEAD: Final = 64 * 1024  # bytes from the start of a file that its kind is judged by

Kind = Literal["picture", "animation", "clip", "refused"]


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file.

    `reader` is Pillow's name of a picture, FFmpeg's of a clip, or "HEIF"; "" for what is refused.
    `noun` completes "the file is ..."; `hint` is what to do about a kind that is refused.
    """

    name: str
    kind: Kind
    reader: str
    noun: str
    suffix: str = ""
    hint: str = ""


def _picture(name: str, reader: str, suffix: str, noun: str = "") -> Format:
    return Format(name, "picture", reader, noun or f"a {name} picture", suffix)


def _animation(name: str, reader: str, suffix: str) -> Format:
    return Format(name, "animation", reader, f"an animation ({name})", suffix)


def _clip(name: str, reader: str, suffix: str) -> Format:
    return Format(name, "clip", reader, f"a clip ({name})", suffix)


def _refused(name: str, noun: str, hint: str) -> Format:
    return Format(name, "refused", "", noun, "", hint)


_SAVE: Final = "Save it as PNG or JPEG and give that."
_SOUND: Final = "Give a clip that has a picture."
_DOCUMENT: Final = "Give a picture or a clip; export a page as PNG."
_PACKED: Final = "Unpack it and give one picture or clip of it."
_LIST: Final = "Give the clip itself, as a file on this computer."
_OTHER: Final = "Give a picture (JPEG, PNG, WebP, HEIC) or a clip (MP4, MOV, WebM)."
_CONVERT: Final = "Convert it to MP4: ffmpeg -i FILE out.mp4"

_MOV: Final = "mov,mp4,m4a,3gp,3g2,mj2"

FORMATS: Final[tuple[Format, ...]] = (
    _picture("JPEG", "JPEG", ".jpg"),
    _picture("PNG", "PNG", ".png"),
    _picture("WebP", "WEBP", ".webp"),
    _picture("HEIC", "HEIF", ".heic"),
    _picture("AVIF", "AVIF", ".avif", "an AVIF picture"),
    _picture("GIF", "GIF", ".gif"),
    _picture("TIFF", "TIFF", ".tif"),
    _picture("BMP", "BMP", ".bmp"),
    _animation("animated GIF", "GIF", ".gif"),
    _animation("animated PNG", "PNG", ".png"),
    _animation("animated WebP", "WEBP", ".webp"),
    _animation("animated AVIF", "AVIF", ".avif"),
    _clip("MP4", _MOV, ".mp4"),
    _clip("QuickTime", _MOV, ".mov"),
    _clip("3GP", _MOV, ".3gp"),
    _clip("Matroska", "matroska,webm", ".mkv"),
    _clip("WebM", "matroska,webm", ".webm"),
    _clip("AVI", "avi", ".avi"),
    _clip("MPEG-TS", "mpegts", ".ts"),
    _clip("MPEG-PS", "mpeg", ".mpg"),
    _clip("MPEG video", "mpegvideo", ".m2v"),
    _clip("H.264 stream", "h264", ".h264"),
    _clip("H.265 stream", "hevc", ".h265"),
    _clip("Flash video", "flv", ".flv"),
    _clip("Windows Media", "asf", ".wmv"),
    _clip("Ogg video", "ogg", ".ogv"),
    _clip("MXF", "mxf", ".mxf"),
    _clip("Y4M", "yuv4mpegpipe", ".y4m"),
    _clip("IVF", "ivf", ".ivf"),
    _refused("JPEG XL", "a JPEG XL picture, which cannot be read yet", _SAVE),
    _refused("JPEG 2000", "a JPEG 2000 picture, which is not read", _SAVE),
    _refused("SVG", "an SVG drawing, which has no pixels", "Export it as PNG and give that."),
    _refused("EPS", "a PostScript or EPS file, which is not run", "Export it as PNG."),
    _refused("PDF", "a PDF document", _DOCUMENT),
    _refused("camera raw", "a camera's raw picture", "Develop it and save it as JPEG."),
    _refused("Photoshop", "a Photoshop picture", _SAVE),
    _refused("GIMP", "a GIMP picture", _SAVE),
    _refused("OpenEXR", "an OpenEXR picture", _SAVE),
    _refused("Radiance HDR", "a Radiance HDR picture", _SAVE),
    _refused("icon", "an icon", _SAVE),
    _refused("other picture", "a picture of a rare kind, which is not read", _SAVE),
    _refused("DICOM", "a medical picture (DICOM)", _SAVE),
    _refused("HEIF sequence", "a sequence of HEIF pictures", _CONVERT),
    _refused("RealMedia", "a RealMedia clip", _CONVERT),
    _refused("Flash", "a Flash program", "Record what it shows and give the clip."),
    _refused("MP3", "a sound file (MP3)", _SOUND),
    _refused("M4A", "a sound file (M4A)", _SOUND),
    _refused("WAV", "a sound file (WAV)", _SOUND),
    _refused("FLAC", "a sound file (FLAC)", _SOUND),
    _refused("Ogg sound", "a sound file (Ogg)", _SOUND),
    _refused("AAC", "a sound file (AAC)", _SOUND),
    _refused("AIFF", "a sound file (AIFF)", _SOUND),
    _refused("AMR", "a sound file (AMR)", _SOUND),
    _refused("MIDI", "a sound file (MIDI)", _SOUND),
    _refused("playlist", "a playlist, which names other files", _LIST),
    _refused("stream description", "a stream description, which names other files", _LIST),
    _refused("subtitles", "a file of subtitles", "Give the clip they belong to."),
    _refused("ZIP", "a ZIP archive", _PACKED),
    _refused("document", "an office document", _DOCUMENT),
    _refused("archive", "a packed archive", _PACKED),
    _refused("web page", "a web page", "Save the picture itself, not the page that shows it."),
    _refused("program", "a program or script", _OTHER),
    _refused("text", "a text file", _OTHER),
    _refused("empty", "empty", "Copy or download it again."),
    _refused("unknown", "neither a picture nor a clip that is known here", _OTHER),
)
NAMED: Final = {one.name: one for one in FORMATS}
# Endings of files that are read; a name with one of them never means a camera.
SUFFIXES: Final = frozenset(f.suffix for f in FORMATS if f.suffix) | {".jpeg", ".heif", ".tiff"}

# Names of files that are written, by what is written into them.
PICTURES_OUT: Final = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
CLIPS_OUT: Final = {".mp4": "MP4", ".m4v": "MP4", ".mov": "QuickTime", ".mkv": "Matroska"}

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


def recognise(head: bytes) -> Format:
    """The kind of file that starts with `head`, its first `HEAD` bytes, or all of it if shorter."""
    return NAMED[_name(head)]


def _name(head: bytes) -> str:
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
    """What a PNG's chunk before its pixels holds, None if it has none of that name."""
    at = 8
    while at + 8 <= len(head):
        size, name = int.from_bytes(head[at : at + 4], "big"), head[at + 4 : at + 8]
        if name == wanted:
            return head[at + 8 : at + 8 + size]
        if name == b"IDAT":
            return None
        at += 12 + size
    return None


def _gif_moves(data: bytes) -> bool:
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


_GIF_READ: Final = 4 << 20  # bytes looked through for a second picture


def look(path: Path) -> Format:
    """The kind of file at `path`, by its content.

    Raises:
        OSError: it cannot be opened.
        UsageError: it is no regular file: a folder, a device, a pipe.
    """
    _regular(path, os.stat(path).st_mode)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        _regular(path, os.fstat(file.fileno()).st_mode)
        head = file.read(HEAD)
        found = recognise(head)
        if found.name == "animated GIF":
            data = head + file.read(_GIF_READ)
            return found if len(data) > _GIF_READ or _gif_moves(data) else NAMED["GIF"]
    return found


def _regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((n for test, n in _SPECIAL if test(mode)), "no file")
        raise UsageError(
            f"{str(path)!r} is {kind}, expected a picture or a clip", hint="Give one file."
        )


_SPECIAL: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_of(path: Path) -> Kind:
    """Picture, animation, clip or refused; asked again at no cost while the file stays as it is."""
    try:
        facts = path.stat()
    except OSError:
        return "refused"
    return _kind_of(path, facts.st_mtime_ns, facts.st_size, facts.st_ino)


@functools.lru_cache(512)
def _kind_of(path: Path, *_: int) -> Kind:
    try:
        return look(path).kind
    except (OSError, VcamError):
        return "refused"


def wanted(path: Path) -> bool:
    """True if a folder's file is a picture, or is named like one, so that a bad one is told of."""
    return kind_of(path) == "picture" or path.suffix.lower() in PICTURES_OUT


Fault = type[BackgroundError] | type[SourceError]


def readable(path: Path, fault: Fault) -> Format:
    """The kind of file at `path`, if it is one that can be read.

    Raises:
        BackgroundError or SourceError, as `fault` says: missing, no file, or of a refused kind.
    """
    try:
        found = look(path)
    except FileNotFoundError as error:
        raise fault(
            f"{str(path)!r} does not exist", hint="Give the path of a picture or a clip."
        ) from error
    except OSError as error:
        raise fault(
            f"{str(path)!r} cannot be read: {error.strerror}", hint="Give a file you may read."
        ) from error
    except UsageError as error:
        raise fault(error.message, hint=error.hint) from error
    if found.kind == "refused":
        raise fault(f"{str(path)!r} is {found.noun}", hint=found.hint)
    return found


def check_output(path: Path, kind: Literal["picture", "clip"]) -> None:
    """Refuse a name that a picture or clip cannot be written under, before anything is read.

    Raises:
        UsageError: its ending says another kind of file.
    """
    suffix = path.suffix.lower()
    names = PICTURES_OUT if kind == "picture" else CLIPS_OUT
    if suffix in names:
        return
    other = CLIPS_OUT if kind == "picture" else PICTURES_OUT
    known = {f.suffix: f.name for f in reversed(FORMATS) if f.suffix}
    what = other.get(suffix) or known.get(suffix, "")
    ending = f"ends in {suffix} ({what})," if what else f"ends in {suffix!r},"
    endings = ", ".join(names)
    raise UsageError(
        f"{str(path)!r} {ending} but what is rendered is a {kind}",
        hint=f"Give a name that ends in {endings}.",
    )
