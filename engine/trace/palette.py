"""The colours of charts, on screen and in files: one fixed colour a phase, for a dark ground and for a light one."""

from dataclasses import dataclass

from engine.trace.phases import Phase


@dataclass(frozen=True, slots=True)
class Palette:
    """Every colour of a chart, as "#rrggbb".

    `surface` is what a chart lies on, `plot` its ground. `series` colours configurations, in order.
    """

    surface: str
    plot: str
    border: str
    grid: str
    text: str
    muted: str
    faint: str
    accent: str
    mark: str
    series: tuple[str, ...]
    phases: dict[Phase, str]


#: Okabe and Ito's set, lifted a little for a dark ground; phases of one group are neighbours in hue.
_DARK_PHASES = {
    Phase.FORWARD: "#3d8fd1",
    Phase.EMBED: "#e8dc5a",
    Phase.ATTENTION: "#e69f00",
    Phase.ATTENTION_CORE: "#ffcf6b",
    Phase.CROSS_ATTENTION: "#c07a1e",
    Phase.MIXER: "#2f7fc1",
    Phase.MLP: "#56b4e9",
    Phase.NORM: "#10a37f",
    Phase.HEAD: "#cc79a7",
    Phase.COMMUNICATE: "#7f7fe0",
    Phase.DRAFT: "#f2a889",
    Phase.SAMPLE: "#e0662a",
    Phase.TRANSFER: "#b5482a",
    Phase.DETOKENIZE: "#f08c6c",
    Phase.STOP: "#8f3b2b",
    Phase.BACKWARD: "#a05fb4",
    Phase.UNATTRIBUTED: "#7d8590",
}

_LIGHT_PHASES = {
    Phase.FORWARD: "#2472b0",
    Phase.EMBED: "#cdbb1c",
    Phase.ATTENTION: "#e08e00",
    Phase.ATTENTION_CORE: "#f5bd4b",
    Phase.CROSS_ATTENTION: "#a4620d",
    Phase.MIXER: "#0b5c97",
    Phase.MLP: "#45a3dc",
    Phase.NORM: "#009e73",
    Phase.HEAD: "#c0669a",
    Phase.COMMUNICATE: "#6464cc",
    Phase.DRAFT: "#ee9c7a",
    Phase.SAMPLE: "#d55e00",
    Phase.TRANSFER: "#a63f1c",
    Phase.DETOKENIZE: "#e87f5c",
    Phase.STOP: "#7c2f1f",
    Phase.BACKWARD: "#8c4aa3",
    Phase.UNATTRIBUTED: "#8c959f",
}

DARK = Palette(
    surface="#12171e",
    plot="#0a0e13",
    border="#262e39",
    grid="#1c232d",
    text="#e6edf3",
    muted="#97a3b0",
    faint="#7f8a97",
    accent="#4cc9f0",
    mark="#c9d4df",
    series=("#4cc9f0", "#e69f00", "#3fc69a", "#cc79a7", "#e8dc5a", "#e0662a", "#8fb3ff", "#a3adb8"),
    phases=_DARK_PHASES,
)

LIGHT = Palette(
    surface="#ffffff",
    plot="#ffffff",
    border="#d5dbe1",
    grid="#e9edf1",
    text="#1b2129",
    muted="#57616c",
    faint="#66707a",
    accent="#0b7ea8",
    mark="#39434e",
    series=("#0b7ea8", "#c47700", "#00845f", "#b0508a", "#8c7d00", "#c24f0c", "#4a6fd0", "#6b747e"),
    phases=_LIGHT_PHASES,
)

#: Colour maps for times, by anchors from low to high: viridis and cividis (Smith, Firing, and van der Walt; Nuñez,
#: Anderton, and Renslow; CC0).
MAPS = {
    "viridis": "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1f9f88 27ad81 3dbc74 5cc863"
    " 81d34d aadc32 d5e21a fde725",
    "cividis": "00204d 002c69 06366e 2d426c 414d6b 52596c 61646f 6f7073 7d7c78 8b8779 9b9477 aca174 bcaf6f"
    " cebc68 e0cb5e f2da50 ffea46",
}
