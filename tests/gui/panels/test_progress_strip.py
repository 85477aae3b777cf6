"""How far long work is, in words and on the bar."""

import pytest
from PySide6.QtWidgets import QProgressBar
from pytestqt.qtbot import QtBot

from engine.protocol import Progress
from gui.panels.progress_strip import DOWNLOAD, ProgressStrip, download_words, time_words

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)

MIB, GIB = 2**20, 2**30


def download(**facts: float) -> Progress:
    return Progress(0, "downloading model.safetensors", 0.35, DOWNLOAD, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (
            download(
                done_bytes=1.2 * GIB, total_bytes=3.4 * GIB, done_files=1, total_files=5, bytes_per_s=45 * MIB
            ),
            "1.20 of 3.40 GiB · file 2 of 5 · 45.0 MiB/s · 51 s left",
        ),
        (download(done_bytes=800 * MIB, total_bytes=3.4 * GIB), "800 MiB of 3.40 GiB"),
        (download(done_bytes=7), "7 B"),
        (download(total_bytes=10 * MIB, total_files=3), "0 B of 10.0 MiB · file 1 of 3"),
        (
            download(done_bytes=GIB, total_bytes=GIB, done_files=3, total_files=3, bytes_per_s=MIB),
            "1.00 of 1.00 GiB · file 3 of 3 · 1.00 MiB/s",
        ),
        (Progress(0, "reading weights", 0.5, "read weights"), ""),
    ],
)
def test_a_download_says_bytes_files_rate_and_time_left(progress: Progress, words: str) -> None:
    assert download_words(progress) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (89, "89 s"),
        (89.5, "2 min"),
        (200, "4 min"),
        (3 * 3600, "3 h 0 min"),
        (90 * 60, "1 h 30 min"),
        (1e6, "277 h"),
    ],
)
def test_time_left_is_in_whole_units(seconds: float, words: str) -> None:
    assert time_words(seconds) == words


def test_stage_activity_and_share_are_shown(qtbot: QtBot) -> None:
    strip = ProgressStrip()
    qtbot.addWidget(strip)
    bar = strip.findChild(QProgressBar)
    assert isinstance(bar, QProgressBar)
    strip.show_load(download(done_bytes=35 * MIB, total_bytes=100 * MIB))
    assert strip.text == "downloading model.safetensors"
    assert "35.0 of 100 MiB" in strip.details
    assert strip._stage.text() == "DOWNLOAD"
    assert strip._share.text() == "35 %"
    assert bar.value() == 350
    strip.show_load(Progress(0, "probing settings", None, "probe settings"), False)
    assert (bar.minimum(), bar.maximum()) == (0, 0), "its end is not known"
    assert strip._share.text() == ""
    assert not strip._details.isVisible()
    assert not strip._cancel.isVisible()
    for fraction, value in ((2.0, 1000), (-1.0, 0)):
        strip.show_progress("prefill", fraction)
        assert bar.value() == value
    assert not strip._stage.isVisible()
    strip.show_progress("prefill", float("nan"))
    assert bar.maximum() == 0


def test_the_button_gives_it_up(qtbot: QtBot) -> None:
    strip = ProgressStrip()
    qtbot.addWidget(strip)
    strip.show_progress("reading", 0.5)
    with qtbot.waitSignal(strip.cancelled):
        strip._cancel.click()
