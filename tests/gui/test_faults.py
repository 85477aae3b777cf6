"""What nothing caught becomes one sentence and a report, of any thread."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from gui.faults import Faults


@pytest.fixture
def faults(tmp_path: Path) -> Iterator[Faults]:
    made = Faults(tmp_path)
    made.install()
    yield made
    made.uninstall()


def fail() -> None:
    raise ValueError("this was to be expected")


def test_a_fault_is_told_once_and_reported(
    faults: Faults, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[tuple[str, str]] = []
    faults.happened.connect(lambda sentence, details: told.append((sentence, details)))
    for _ in range(3):
        try:
            fail()
        except ValueError:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    assert len(told) == 1
    assert "this was to be expected" in told[0][0]
    assert "Traceback" in told[0][1]
    (report,) = tmp_path.glob("report-*.txt")
    assert "ValueError" in report.read_text(encoding="utf-8")
    assert "ValueError" in capsys.readouterr().err


def test_a_fault_in_a_thread_is_told_on_the_thread_of_the_window(faults: Faults, qtbot: QtBot) -> None:
    with qtbot.waitSignal(faults.happened) as happened:
        thread = threading.Thread(target=fail, name="that fails")
        thread.start()
        thread.join()
    assert "this was to be expected" in happened.args[0]


def test_ctrl_c_is_no_fault(faults: Faults, qtbot: QtBot) -> None:
    with qtbot.waitSignal(faults.interrupted), qtbot.assertNotEmitted(faults.happened):
        sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
