"""Numbers of the matte's arithmetic, shared by all who compute it: Numba, NumPy, torch, Triton."""

from __future__ import annotations

from typing import Final

# BT.601: limited range holds luma in 16..235 and chroma in 16..240, about a grey of 128.
BLACK: Final = 16
GREY: Final = 128
LUMA_SPAN: Final = 219
CHROMA_SPAN: Final = 224
LUMA_SLOPE: Final = LUMA_SPAN / 255  # from full range to limited range
CHROMA_SLOPE: Final = CHROMA_SPAN / 255

# Which pieces of a matte are a person, and which pixels of them; see `segmentation.refine`.
FAINT: Final = 0.1  # below this a pixel joins nothing
SOLID: Final = 0.9  # below this a pixel may belong to a hole
ISLAND: Final = 0.004  # share of the frame: detached pieces smaller than this go
HOLE: Final = 0.0012  # share of the frame: enclosed gaps smaller than this are filled
ARRIVE: Final = 0.015  # share of the frame that a person covers at least, to be noticed
LEAVE: Final = 0.008  # and below which a person who was there counts as gone
FLOATING: Final = 0.02  # the same of those that reach neither the body nor the picture's edge
REACH: Final = 0.03  # of the height: a piece within it of the body reaches it
FIRM: Final = 0.4  # mean alpha of a piece, below which it is a ghost
HALF: Final = 0.5  # alpha of a pixel that counts for the person's share of the frame
SURE: Final = 0.85  # mean alpha where it is above a half, for a person to be noticed
DOUBT: Final = 0.7  # and below which who was there counts as gone, and the rest as furniture
BODY: Final = (0.45, 0.6)  # alpha that is a mere doubt at most, and a body at least
RIM: Final = 0.025  # share of the height: how far from a body alpha may be faint
LEVELS: Final = (0.1, 0.95)  # alpha outside these is pure background or pure person
EPSILON: Final = 1e-3  # of the guided filter: how much of an edge in the picture is no edge

# What the network is told of the room; see `segmentation.motion.room`.
ROOM_INPUTS: Final = 4  # inputs: its difference to the picture in R, G and B, and where it is known
ROOM_SCALE: Final = 0.5  # of the difference: it then spans as much as the picture, as int8 likes

# How steady the matte is kept; see `segmentation.motion.temporal`.
CUT: Final = 0.14  # mean change of the picture, brightness shift removed, that is a new scene
STILL: Final = 4.0  # levels of 255: change of colour that counts as movement
NOISIEST: Final = 8.0  # levels: no sensor is noisier than this, averaged to model size
NOISE_GAIN: Final = 1.02  # by which the noise that is assumed grows with each frame,
NOISE_STEP: Final = 0.02  # and levels, until what is seen holds it down
FOLLOW: Final = (0.20, 0.60)  # the matte changed by this much: follow it, whatever the colours say
