"""Which eyes see colour, and which show nothing without a library between: by format and name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

# Luma or depth alone, as infrared sensors send them.
GREY: Final = frozenset(
    {"GREY", "Y04", "Y06", "Y10", "Y12", "Y14", "Y16", "Y10B", "Y10P", "Y8I", "Y12I", "Y16I", "Z16"}
    | {"INZI", "CNF4"}
)
# What a sensor itself sees, colours side by side: a picture only after demosaicing and exposure.
BAYER: Final = frozenset(
    re.findall(
        r"\S+",  # one a format
        "BA81 GBRG GRBG RGGB BG10 GB10 BA10 RG10 pBAA pGAA pgAA pRAA aBA8 aGA8 agA8 aRA8 bBA8 bGA8 "
        "bgA8 bRA8 BG12 GB12 BA12 RG12 pBCC pGCC pgCC pRCC BG14 GB14 GR14 RG14 pBEE pGEE pgEE pREE "
        "BYR2 GB16 GR16 RG16 ip3b ip3g ip3G ip3r",
    )
)
_INFRARED: Final = re.compile(
    r"(?<![A-Za-z])IR(?![A-Za-z])|infra-?\s?red|hello\s+face", re.IGNORECASE
)
_PIPELINES: Final = (
    (r"ipu\s?-?6", "Intel IPU6"),
    (r"ipu\s?-?7", "Intel IPU7"),
    (r"ipu\s?-?[34]|cio2", "Intel IPU3"),
    (r"camss|qcom", "Qualcomm CAMSS"),
    (r"unicam|rp1-cfe|pispbe|bcm2835-isp", "Raspberry Pi"),
    (r"amd.?isp|isp4", "AMD ISP"),
    (r"rkisp|mxc-?isi|sun\d+i-csi|stm32-dcmi", "system-on-chip"),
)
THROUGH_LIBCAMERA: Final = (
    "Such a sensor shows pictures through libcamera alone. Install v4l2-relayd, or another bridge "
    "that makes an ordinary virtual camera of it, and choose that one: `vcam devices` lists it."
)


def grey_only(formats: Iterable[str]) -> bool:
    """True if a node has no colours to send."""
    offered = {name.strip() for name in formats}
    return bool(offered) and offered <= GREY


def called_infrared(*names: str) -> bool:
    """True if one of a node's names says infrared.

    Drivers write "product: function"; then the product's name speaks for every node of it, and
    only the function's counts.
    """
    for name in names:
        function = name.rpartition(": ")[2]
        if _INFRARED.search(function):
            return True
    return False


def pipeline(names: Iterable[str], formats: Iterable[str] = (), *, media: bool = False) -> str:
    """Kind of raw sensor with these names or formats; "" for an ordinary camera.

    `media` is the driver's own word that nothing comes without setting up a graph first.
    """
    words = " ".join(names)
    offered = {name.strip() for name in formats}
    known = next((what for way, what in _PIPELINES if re.search(way, words, re.IGNORECASE)), "")
    if media or (offered and offered <= BAYER):
        return known or "a media controller"
    # Ordinary cameras may sit on such chips; their nodes have formats that can be shown.
    return known if known and not offered - BAYER else ""
