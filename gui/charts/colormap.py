"""Colour maps for times: viridis and cividis (Smith, Firing, and van der Walt; Nuñez, Anderton, and
Renslow; CC0).
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from engine.trace.palette import MAPS


@cache
def lookup(name: str) -> npt.NDArray[np.uint32]:
    """A map as 256 pixels 0xffRRGGBB, from low to high. Raises KeyError for an unknown name."""
    anchors = np.array([[int(c[i : i + 2], 16) for i in (0, 2, 4)] for c in MAPS[name].split()], np.float64)
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
