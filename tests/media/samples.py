"""One small file of every kind in the table, made on the spot."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import av
import numpy as np
from PIL import Image

from tests.media import made

COLOUR = (200, 60, 30)
SIZE = (64, 36)


def clip(container: str, codec: str, pixels: str = "yuv420p", *, frames: int = 5) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        stream = output.add_stream(codec, rate=25, options=quiet)
        size = (352, 288) if container == "mxf" else SIZE
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        image = np.full((size[1], size[0], 3), COLOUR, np.uint8)
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=pixels)
            frame.pts = i
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def sound(container: str, codec: str) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=44100 if codec != "libopus" else 48000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.int16), "s16", "mono")
        frame.sample_rate = stream.rate
        for packet in output_frames(stream, frame):
            output.mux(packet)
    return buffer.getvalue()


def output_frames(stream: av.AudioStream, frame: av.AudioFrame) -> list[av.Packet]:
    context = stream.codec_context
    resampler = av.AudioResampler(context.format, "mono", stream.rate, context.frame_size or 1024)
    packets = []
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        part.pts = None
        packets += stream.encode(part)
    return packets + stream.encode(None)


def picture(kind: str, **options: object) -> bytes:
    return made.saved(Image.new("RGB", SIZE, COLOUR), kind, **options)


def moving(kind: str, **options: object) -> bytes:
    """Two pictures, the second another colour: Pillow leaves out what does not change."""
    pair = [Image.new("RGB", SIZE, colour) for colour in (COLOUR, (30, 60, 200))]
    return made.saved(pair[0], kind, save_all=True, append_images=pair[1:], duration=200, **options)


def raw() -> bytes:
    """A TIFF as cameras write it: a thumbnail first, and the DNG mark."""
    return made.tiff(8, 8, {50706: (0x00000401,)}, zlib.compress(bytes(64)))


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


def read() -> dict[str, bytes]:
    """What is read, by the table's names."""
    image = np.full((SIZE[1], SIZE[0], 3), COLOUR, np.uint8)
    return {
        "JPEG": picture("JPEG", quality=95),
        "PNG": picture("PNG"),
        "WebP": picture("WEBP", lossless=True),
        "HEIC": made.heic([image], 0, SIZE),
        "AVIF": picture("AVIF", quality=95),
        "GIF": picture("GIF"),
        "TIFF": picture("TIFF"),
        "BMP": picture("BMP"),
        "animated GIF": moving("GIF"),
        "animated PNG": moving("PNG"),
        "animated WebP": moving("WEBP", lossless=True),
        "animated AVIF": moving("AVIF", quality=95),
        "MP4": clip("mp4", "libx264"),
        "QuickTime": clip("mov", "libx264"),
        "3GP": clip("3gp", "mpeg4"),
        "Matroska": clip("matroska", "libx264"),
        "WebM": clip("webm", "libvpx-vp9"),
        "AVI": clip("avi", "mpeg4"),
        "MPEG-TS": clip("mpegts", "libx264"),
        "MPEG-PS": clip("mpeg", "mpeg2video"),
        "MPEG video": clip("mpeg2video", "mpeg2video"),
        "H.264 stream": clip("h264", "libx264"),
        "H.265 stream": clip("hevc", "libx265"),
        "Flash video": clip("flv", "libx264"),
        "Windows Media": clip("asf", "wmv2"),
        "Ogg video": clip("ogg", "libtheora" if "libtheora" in av.codecs_available else "libvpx"),
        "MXF": clip("mxf", "mpeg2video"),
        "Y4M": clip("yuv4mpegpipe", "wrapped_avframe"),
        "IVF": clip("ivf", "libvpx-vp9"),
    }


def refused() -> dict[str, list[bytes]]:
    """What is refused, by the table's names."""
    mp3 = sound("mp3", "libmp3lame")
    tail = bytes(400)
    return {
        "JPEG XL": [b"\xff\x0a" + tail, b"\0\0\0\x0cJXL \r\n\x87\n" + tail],
        "JPEG 2000": [b"\0\0\0\x0cjP  \r\n\x87\n" + tail, b"\xff\x4f\xff\x51" + tail],
        "SVG": [b'<?xml version="1.0"?>\n<!-- a --><svg xmlns="x"/>', b"<svg></svg>"],
        "EPS": [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xc5\xd0\xd3\xc6" + tail],
        "PDF": [b"%PDF-1.7\n1 0 obj\n"],
        "camera raw": [raw(), b"II*\0\x10\0\0\0CR\2\0" + tail, b"FUJIFILMCCD-RAW 0201" + tail,
                       b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + tail],
        "Photoshop": [b"8BPS\0\1" + tail],
        "GIMP": [b"gimp xcf v011\0" + tail],
        "OpenEXR": [b"v/1\1" + tail],
        "Radiance HDR": [b"#?RADIANCE\n" + tail],
        "icon": [made.saved(Image.new("RGB", (16, 16)), "ICO"), b"icns" + tail],
        "other picture": [b"P6\n8 8\n255\n" + tail, b"qoif" + tail, b"DDS |" + tail],
        "DICOM": [bytes(128) + b"DICM" + tail],
        "HEIF sequence": [b"\0\0\0\x18ftyphevc\0\0\0\0msf1hevc" + tail],
        "RealMedia": [b".RMF\0\0\0\x12" + tail],
        "Flash": [b"CWS\x0a" + tail],
        "MP3": [mp3, mp3[mp3.index(b"\xff\xfb") :] if b"\xff\xfb" in mp3 else mp3],
        "M4A": [sound("ipod", "aac")],
        "WAV": [sound("wav", "pcm_s16le")],
        "FLAC": [sound("flac", "flac")],
        "Ogg sound": [sound("ogg", "libopus")],
        "AAC": [sound("adts", "aac")],
        "AIFF": [sound("aiff", "pcm_s16be")],
        "AMR": [b"#!AMR\n" + tail],
        "MIDI": [b"MThd\0\0\0\6" + tail],
        "playlist": [b"#EXTM3U\n", b"[playlist]\n", b"ffconcat version 1.0\n"],
        "stream description": [b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n"],
        "subtitles": [b"WEBVTT\n\n", b"1\n00:00:01,000 --> 00:00:02,000\nHello\n"],
        "ZIP": [zipped("a.jpg"), zipped()],
        "document": [zipped("[Content_Types].xml", "word/a.xml"), b"\xd0\xcf\x11\xe0" + tail],
        "archive": [b"\x1f\x8b\x08" + tail, b"7z\xbc\xaf\x27\x1c" + tail, b"Rar!\x1a\7" + tail],
        "web page": [b"<!DOCTYPE html><html><body>404</body></html>"],
        "program": [b"\x7fELF" + tail, b"#!/bin/sh\n", b"MZ" + tail],
        "text": [b"hello\n", "Grüße".encode(), "﻿hello".encode("utf-16")],
        "empty": [b""],
        "unknown": [bytes(500), struct.pack(">500B", *(i % 251 for i in range(3, 503)))],
    }  # fmt: skip
