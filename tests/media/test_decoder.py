"""A closed clip's decoder is gone: its threads, and the pictures it kept."""

from __future__ import annotations

import gc
import os
import sys

import pytest

from tests.vcam.clips import make_clip
from vcam.media.clip import ClipSource


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in Linux's /proc")
def test_a_closed_or_rewound_clip_leaves_no_decoder_behind(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4")
    gc.disable()  # a cycle would keep the decoder until the collector comes by
    try:
        with ClipSource(clip, live=False) as source:
            source.read(1)
            one = threads()
        before = threads()

        for _ in range(4):
            with ClipSource(clip, live=False) as source:
                source.read(1)
                source._reader.rewind()
                source.read(1)
                assert threads() == one
    finally:
        gc.enable()

    assert one > before
    assert threads() == before
