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
from vcam.media.recognise import HEAD, gif_moves, name_of

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


def _other(name: str, noun: str, hint: str) -> Format:
    return _refused(name, f"{noun}, not a picture or a clip", hint)


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
    _other("PDF", "a PDF document", _DOCUMENT),
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
    _other("Flash", "a Flash program", "Record what it shows and give the clip."),
    _other("MP3", "a sound file (MP3)", _SOUND),
    _other("M4A", "a sound file (M4A)", _SOUND),
    _other("WAV", "a sound file (WAV)", _SOUND),
    _other("FLAC", "a sound file (FLAC)", _SOUND),
    _other("Ogg sound", "a sound file (Ogg)", _SOUND),
    _other("AAC", "a sound file (AAC)", _SOUND),
    _other("AIFF", "a sound file (AIFF)", _SOUND),
    _other("AMR", "a sound file (AMR)", _SOUND),
    _other("MIDI", "a sound file (MIDI)", _SOUND),
    _refused("playlist", "a playlist, which names other files", _LIST),
    _refused("stream description", "a stream description, which names other files", _LIST),
    _other("subtitles", "a file of subtitles", "Give the clip they belong to."),
    _other("ZIP", "a ZIP archive", _PACKED),
    _other("document", "an office document", _DOCUMENT),
    _other("archive", "a packed archive", _PACKED),
    _other("web page", "a web page", "Save the picture itself, not the page that shows it."),
    _other("program", "a program or script", _OTHER),
    _other("text", "a text file", _OTHER),
    _refused("empty", "empty, not a picture or a clip", "Copy or download it again."),
    _refused("unknown", "not a picture or a clip of a kind that is known here", _OTHER),
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
CLIPS_OUT: Final = {
    ".mp4": "MP4",
    ".m4v": "MP4",
    ".mov": "QuickTime",
    ".mkv": "Matroska",
    ".ts": "MPEG-TS",
}


def recognise(head: bytes) -> Format:
    """The kind of file that starts with `head`, its first `HEAD` bytes, or all of it if shorter."""
    return NAMED[name_of(head)]


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
            return found if len(data) > _GIF_READ or gif_moves(data) else NAMED["GIF"]
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
