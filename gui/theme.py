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

from engine.trace import palette as palettes
from engine.trace.phases import Phase

RESOURCES = Path(__file__).resolve().parent.parent / "resources"


@dataclass(frozen=True)
class Theme:
    """Every colour of the window, as "#rrggbb".

    `surface` is what panels and charts lie on, `raised` what lies on those (buttons, chips, tooltips).
    `plot` is the ground of the charts, `crosshair` what is drawn over a colour map. `floor` stands out from all
    phases by its lightness, with a line of `plot` on either side. `series` colours configurations, in order.
    `map` names a colour map of gui.charts.colormap.
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
    floor: str
    phases: dict[Phase, str]
    series: tuple[str, ...]
    map: str

    def color(self, phase: Phase) -> QColor:
        """The one colour of a phase."""
        return QColor(self.phases[phase])


DARK = Theme(
    name="dark",
    background="#0d1117",
    surface=palettes.DARK.surface,
    raised="#1b222c",
    hover="#242d39",
    plot=palettes.DARK.plot,
    border=palettes.DARK.border,
    grid=palettes.DARK.grid,
    text=palettes.DARK.text,
    muted=palettes.DARK.muted,
    faint=palettes.DARK.faint,
    accent=palettes.DARK.accent,
    on_accent="#04161c",
    selection="#ffffff",
    warning="#f2b84b",
    danger="#ff7b72",
    good="#4fd18b",
    mark=palettes.DARK.mark,
    crosshair="#ffffff",
    floor="#ffffff",
    phases=palettes.DARK.phases,
    series=palettes.DARK.series,
    map="viridis",
)

LIGHT = Theme(
    name="light",
    background="#f6f7f9",
    surface=palettes.LIGHT.surface,
    raised="#f3f5f7",
    hover="#e8ecf0",
    plot=palettes.LIGHT.plot,
    border=palettes.LIGHT.border,
    grid=palettes.LIGHT.grid,
    text=palettes.LIGHT.text,
    muted=palettes.LIGHT.muted,
    faint=palettes.LIGHT.faint,
    accent=palettes.LIGHT.accent,
    on_accent="#ffffff",
    selection="#111827",
    warning="#9a6700",
    danger="#c4302b",
    good="#197d49",
    mark=palettes.LIGHT.mark,
    crosshair="#ffffff",
    floor="#101418",
    phases=palettes.LIGHT.phases,
    series=palettes.LIGHT.series,
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


def ink(ground: QColor) -> QColor:
    """Black or white, whichever can be read on a colour."""
    light = 0.299 * ground.redF() + 0.587 * ground.greenF() + 0.114 * ground.blueF()
    return QColor("#0b0f14" if light > 0.45 else "#ffffff")
