"""Numbers of the composite's arithmetic, shared by all who compute it: Numba, NumPy, torch, Triton.

Those of colour ranges, and of the matte, stand in `segmentation.constants`.
"""

from __future__ import annotations

from typing import Final

# Alpha is stretched by this much about its middle, so that almost-0 and almost-1 are exactly so.
GAIN: Final = 1.02
SHIFT: Final = (GAIN - 1) / 2

# Alpha from which a pixel counts nothing for a colour, and from which it counts whole.
PERSON_RAMP: Final = (0.6, 0.95)
ROOM_RAMP: Final = (0.4, 0.05)
BLUR_RAMP: Final = (0.5, 0.05)  # of the room that is blurred
NEAR: Final = 6  # pixels at model size: how far the colours of person and room are looked up
TRUST: Final = 1e-3  # weight of a pixel's own colour where nothing else is near
LEAST_WEIGHT: Final = 1e-3  # of all the room there is, to divide by where there is none
PASSES: Final = 3  # box blurs that make a bell
BLUR_MOST: Final = 0.06  # deviation of the strongest blur, as a share of the longer side

SPILL: Final = 0.05  # how far the backdrop's light spills over the rim, as a share of the height
SPILL_GAIN: Final = 1.6  # how much of it spills, by the share of backdrop around a pixel:
SPILL_SHIFT: Final = 0.1  # share * SPILL_GAIN - SPILL_SHIFT, within 0..1,
SPILL_OUT: Final = 2.25  # and as little as SPILL_OUT - share * SPILL_FALL outside the person,
SPILL_FALL: Final = 2.5
SPILL_LIGHT: Final = 1.3 / 219  # by each level of the light's luma above black; 1 at most
SPILL_MOST: Final = 0.75  # of the strongest spill
SPILL_LEAST: Final = 1e-3  # less is none: pixels without any are taken as they are;
RIM_LEAST: Final = 3e-3  # on the processor, where each such pixel costs
