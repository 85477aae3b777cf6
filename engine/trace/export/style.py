"""The style sheet of a report: light or dark as the reader's system is, light on paper. Nothing is fetched."""

from engine.trace import palette
from engine.trace.export.drawing import SERIES, map_colors
from engine.trace.palette import Palette
from engine.trace.phases import Phase

_GROUND = ("surface", "plot", "border", "grid", "text", "muted", "faint", "accent", "mark")

_RULES = """
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 32px 24px 64px; max-width: 1120px; background: var(--surface); color: var(--text);
  font: 14px/1.45 Inter, "Segoe UI", "Helvetica Neue", Arial, "Noto Sans CJK SC", sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 36px 0 8px; border-bottom: 1px solid var(--border); padding-bottom: 4px; }
p { margin: 6px 0; overflow-wrap: anywhere; }
.muted, small { color: var(--muted); }
table { border-collapse: collapse; width: 100%; margin: 8px 0; }
th, td { text-align: left; vertical-align: top; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--grid);
  overflow-wrap: anywhere; }
th { color: var(--muted); font-weight: 600; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
tr.differs td { font-weight: 600; }
.headlines { display: flex; flex-wrap: wrap; gap: 8px 40px; margin: 16px 0; }
.headlines b { display: block; font-size: 26px; font-variant-numeric: tabular-nums; }
.swatch { display: inline-block; width: 10px; height: 10px; margin-right: 6px; border-radius: 2px;
  print-color-adjust: exact; }
.legend { margin: 4px 0; }
.legend span { margin-right: 16px; white-space: nowrap; }
.share { background: var(--grid); width: 100%; min-width: 120px; height: 10px; margin-top: 5px; }
.share i { display: block; height: 10px; print-color-adjust: exact; }
svg { display: block; width: 100%; height: auto; margin: 8px 0; print-color-adjust: exact; }
svg text { font-size: 11px; fill: var(--muted); }
svg text.faint { fill: var(--faint); }
.plot { fill: var(--plot); }
.grid { stroke: var(--grid); }
.axis { stroke: var(--border); }
.mark { stroke: var(--mark); stroke-opacity: 0.7; }
.cap { fill: var(--text); }
.spread { fill-opacity: 0.35; }
.line { fill: none; stroke-width: 1.5; stroke-linejoin: round; }
[class^="map-"] { shape-rendering: crispEdges; }
.hatched { fill: url(#hatch); }
#hatch path { stroke: var(--plot); stroke-width: 2.5; stroke-opacity: 0.65; }
@media print { body { padding: 0; max-width: none; font-size: 11px; } h2 { break-after: avoid; }
  svg, tr { break-inside: avoid; } a { color: inherit; } }
"""


def _variables(colors: Palette) -> str:
    """A palette as custom properties."""
    own = {name: getattr(colors, name) for name in _GROUND}
    own |= {f"phase-{phase.name.lower()}": color for phase, color in colors.phases.items()}
    own |= {f"series-{number}": color for number, color in enumerate(colors.series[:SERIES])}
    return "".join(f"--{name}: {color}; " for name, color in own.items())


def style_sheet() -> str:
    """All of it."""
    light, dark = _variables(palette.LIGHT), _variables(palette.DARK)
    names = [f"phase-{phase.name.lower()}" for phase in Phase] + [f"series-{n}" for n in range(SERIES)]
    fills = "".join(f".{name} {{ fill: var(--{name}); background: var(--{name}); }}\n" for name in names)
    fills += "".join(
        f".line.series-{n} {{ fill: none; stroke: var(--series-{n}); }}\n" for n in range(SERIES)
    )
    levels = "".join(f".map-{level} {{ fill: {color}; }}\n" for level, color in enumerate(map_colors()))
    return (
        f":root {{ color-scheme: light dark; {light}}}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}\n{_RULES}{fills}{levels}"
    )
