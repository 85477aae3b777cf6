"""How everything looks: two themes (dark, light), one fixed colour a phase, the bundled fonts, one style
sheet.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QFont, QFontDatabase, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication, QStyleFactory

from engine.trace.phases import Phase

RESOURCES = Path(__file__).resolve().parent.parent / "resources"


@dataclass(frozen=True)
class Theme:
    """Every colour of the window, as "#rrggbb".

    `surface` is what panels and charts lie on, `raised` what lies on those (buttons, chips, tooltips).
    `plot` is the ground of the charts, `crosshair` what is drawn over a colour map. `series` colours
    configurations, in order. `map` names a colour map of gui.charts.colormap.
    """

    name: str
    background: str
    surface: str
    raised: str
    hover: str
    plot: str
    border: str
    grid: str
    text: str
    muted: str
    faint: str
    accent: str
    on_accent: str
    selection: str
    warning: str
    danger: str
    good: str
    mark: str
    crosshair: str
    phases: dict[Phase, str]
    series: tuple[str, ...]
    map: str

    def color(self, phase: Phase) -> QColor:
        """The one colour of a phase."""
        return QColor(self.phases[phase])


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

DARK = Theme(
    name="dark",
    background="#0d1117",
    surface="#12171e",
    raised="#1b222c",
    hover="#242d39",
    plot="#0a0e13",
    border="#262e39",
    grid="#1c232d",
    text="#e6edf3",
    muted="#97a3b0",
    faint="#5d6875",
    accent="#4cc9f0",
    on_accent="#04161c",
    selection="#ffffff",
    warning="#f2b84b",
    danger="#ff7b72",
    good="#4fd18b",
    mark="#c9d4df",
    crosshair="#ffffff",
    phases=_DARK_PHASES,
    series=("#4cc9f0", "#e69f00", "#3fc69a", "#cc79a7", "#e8dc5a", "#e0662a", "#8fb3ff", "#a3adb8"),
    map="viridis",
)

LIGHT = Theme(
    name="light",
    background="#f6f7f9",
    surface="#ffffff",
    raised="#f3f5f7",
    hover="#e8ecf0",
    plot="#ffffff",
    border="#d5dbe1",
    grid="#e9edf1",
    text="#1b2129",
    muted="#57616c",
    faint="#8a949e",
    accent="#0b7ea8",
    on_accent="#ffffff",
    selection="#111827",
    warning="#9a6700",
    danger="#c4302b",
    good="#197d49",
    mark="#39434e",
    crosshair="#ffffff",
    phases=_LIGHT_PHASES,
    series=("#0b7ea8", "#c47700", "#00845f", "#b0508a", "#8c7d00", "#c24f0c", "#4a6fd0", "#6b747e"),
    map="viridis",
)


def system_theme() -> Theme:
    """The theme that the desktop asks for; dark where it does not say."""
    light = QGuiApplication.styleHints().colorScheme() == Qt.ColorScheme.Light
    return LIGHT if light else DARK


def apply(app: QApplication, theme: Theme) -> None:
    """Give the whole application a theme: Fusion, palette, fonts and one style sheet."""
    app.setStyle(QStyleFactory.create("Fusion"))
    app.setPalette(palette(theme))
    app.setFont(text_font(13))
    app.setStyleSheet(style_sheet(theme))


def palette(theme: Theme) -> QPalette:
    """The theme as Qt's palette, for what the style sheet does not reach."""
    roles = {
        QPalette.ColorRole.Window: theme.background,
        QPalette.ColorRole.WindowText: theme.text,
        QPalette.ColorRole.Base: theme.surface,
        QPalette.ColorRole.AlternateBase: theme.raised,
        QPalette.ColorRole.Text: theme.text,
        QPalette.ColorRole.PlaceholderText: theme.faint,
        QPalette.ColorRole.Button: theme.raised,
        QPalette.ColorRole.ButtonText: theme.text,
        QPalette.ColorRole.BrightText: theme.danger,
        QPalette.ColorRole.Link: theme.accent,
        QPalette.ColorRole.Highlight: theme.accent,
        QPalette.ColorRole.HighlightedText: theme.on_accent,
        QPalette.ColorRole.ToolTipBase: theme.raised,
        QPalette.ColorRole.ToolTipText: theme.text,
        QPalette.ColorRole.Light: theme.hover,
        QPalette.ColorRole.Midlight: theme.hover,
        QPalette.ColorRole.Mid: theme.border,
        QPalette.ColorRole.Dark: theme.border,
        QPalette.ColorRole.Shadow: theme.background,
    }
    made = QPalette()
    for role, color in roles.items():
        made.setColor(role, QColor(color))
    for role in (QPalette.ColorRole.WindowText, QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText):
        made.setColor(QPalette.ColorGroup.Disabled, role, QColor(theme.faint))
    return made


def style_sheet(theme: Theme) -> str:
    """The style sheet in the colours of a theme."""
    template = Template((RESOURCES / "theme" / "style.qss").read_text(encoding="utf-8"))
    colors = {name: value for name, value in vars(theme).items() if isinstance(value, str)}
    families = fonts()
    return template.substitute(
        colors,
        icons=(RESOURCES / "theme").as_posix(),
        text_family=families.text,
        number_family=families.numbers,
    )


@dataclass(frozen=True, slots=True)
class Fonts:
    """Names of the families in use: one for words, one with figures of equal width for numbers."""

    text: str
    numbers: str


@cache
def fonts() -> Fonts:
    """Register the bundled fonts (once; needs an application) and say what they are called.

    Characters that they lack (Chinese, emoji) come from the system's fonts.
    """
    found = []
    for pattern in ("Inter-*.otf", "JetBrainsMono-*.ttf"):
        ids = [QFontDatabase.addApplicationFont(str(f)) for f in sorted((RESOURCES / "fonts").glob(pattern))]
        families = [name for i in ids if i >= 0 for name in QFontDatabase.applicationFontFamilies(i)]
        found.append(families[0] if families else "")
    general = QFontDatabase.systemFont(QFontDatabase.SystemFont.GeneralFont).family()
    fixed = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont).family()
    return Fonts(found[0] or general, found[1] or fixed)


_FALLBACK = ["Noto Sans CJK SC", "Microsoft YaHei", "PingFang SC", "Noto Color Emoji", "Segoe UI Emoji"]


def text_font(pixels: int = 13, bold: bool = False) -> QFont:
    """The font for words, in pixels."""
    return _font(fonts().text, pixels, bold)


def number_font(pixels: int = 12, bold: bool = False) -> QFont:
    """The font for numbers and code: all figures equally wide, so that they do not jiggle."""
    return _font(fonts().numbers, pixels, bold)


def _font(family: str, pixels: int, bold: bool) -> QFont:
    font = QFont([family, *_FALLBACK])
    font.setPixelSize(pixels)
    font.setWeight(QFont.Weight.DemiBold if bold else QFont.Weight.Normal)
    return font
