"""Colour maps for times: viridis and cividis (Smith, Firing, and van der Walt; Nuñez, Anderton, and
Renslow; CC0).
"""

from functools import cache

import numpy as np
import numpy.typing as npt

_ANCHORS = {
    "viridis": "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1f9f88 27ad81 3dbc74 5cc863"
    " 81d34d aadc32 d5e21a fde725",
    "cividis": "00204d 002c69 06366e 2d426c 414d6b 52596c 61646f 6f7073 7d7c78 8b8779 9b9477 aca174 bcaf6f"
    " cebc68 e0cb5e f2da50 ffea46",
}


@cache
def lookup(name: str) -> npt.NDArray[np.uint32]:
    """A map as 256 pixels 0xffRRGGBB, from low to high. Raises KeyError for an unknown name."""
    anchors = np.array(
        [[int(c[i : i + 2], 16) for i in (0, 2, 4)] for c in _ANCHORS[name].split()], np.float64
    )
    at = np.linspace(0, len(anchors) - 1, 256)
    red, green, blue = (
        np.interp(at, np.arange(len(anchors)), anchors[:, i]).round().astype(np.int64) for i in range(3)
    )
    table = np.asarray((0xFF << 24) | (red << 16) | (green << 8) | blue, np.uint32)
    table.setflags(write=False)
    return table


def pixels(values: npt.NDArray[np.int64], ceiling: float, name: str, absent: int) -> npt.NDArray[np.uint32]:
    """Values (any shape) as pixels: 0 takes the colour `absent`, the ceiling and all above it the
    brightest.
    """
    scaled = np.multiply(values, 255.0 / max(ceiling, 1e-9))
    places = np.minimum(scaled, 255.0, out=scaled).astype(np.uint8)
    colors = lookup(name)[places]
    colors[values <= 0] = absent
    return colors
