"""Themes are complete and readable; fonts are the bundled ones."""

import re

import pytest
from PySide6.QtGui import QColor, QFontInfo
from PySide6.QtWidgets import QApplication

from engine.trace.phases import Phase
from gui import theme as themes
from gui.theme import DARK, LIGHT, Theme


def luminance(color: str) -> float:
    """Relative luminance of WCAG 2."""
    parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in QColor(color).getRgbF()[:3]]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(a: str, b: str) -> float:
    """Contrast ratio of WCAG 2."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda t: t.name)
def test_every_phase_has_a_colour_of_its_own_that_can_be_seen(theme: Theme) -> None:
    assert set(theme.phases) == set(Phase)
    assert len(set(theme.phases.values())) == len(Phase)
    assert min(contrast(color, theme.plot) for color in theme.phases.values()) > 1.6


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda t: t.name)
def test_text_can_be_read(theme: Theme) -> None:
    for ground in (theme.background, theme.surface, theme.raised, theme.plot):
        assert contrast(theme.text, ground) > 10
        assert contrast(theme.muted, ground) > contrast(theme.faint, ground) > 4.5
    assert contrast(theme.on_accent, theme.accent) > 4.5
    assert contrast(theme.mark, theme.plot) > 4.5


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda t: t.name)
def test_applying_leaves_no_placeholder(qapp: QApplication, theme: Theme) -> None:
    themes.apply(qapp, theme)
    sheet = qapp.styleSheet()
    assert theme.accent in sheet
    assert not re.findall(r"\$\w+", sheet)
    assert qapp.palette().window().color() == QColor(theme.background)
    for url in re.findall(r'url\("([^"]+)"\)', sheet):
        assert (themes.RESOURCES / "theme" / url.rsplit("/", 1)[1]).exists()
    qapp.setStyleSheet("")


def test_fonts_are_the_bundled_ones(qapp: QApplication) -> None:
    assert themes.fonts() == themes.Fonts("Inter", "JetBrains Mono")
    assert QFontInfo(themes.number_font(12)).fixedPitch()
    assert QFontInfo(themes.text_font(15)).pixelSize() == 15


def test_the_theme_of_the_system_is_one_of_ours(qapp: QApplication) -> None:
    assert themes.system_theme() in (DARK, LIGHT)
