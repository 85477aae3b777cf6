"""What every test of the window gets: no Qt warning, no widget, no timer left behind, no exception lost in paint."""

import gc
import warnings
from collections.abc import Iterator
from typing import TypeVar

import pytest
from PySide6.QtCore import QEvent, QObject, QThread, QTimer
from PySide6.QtWidgets import QApplication, QWidget
from shiboken6 import isValid

Shown = TypeVar("Shown", bound=QWidget)


@pytest.fixture(autouse=True, scope="session")
def what_was_there_before_is_not_searched() -> Iterator[None]:
    """The million objects of torch and transformers, if other tests have imported them: `at_work` skips the frozen."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def qt_is_left_clean(qapp: QApplication) -> Iterator[None]:
    """No top-level widget and no running timer outlives its test; paint raised nothing (pyqtgraph swallows it)."""
    before = {id(thing) for thing in (*qapp.topLevelWidgets(), *at_work())}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        yield
        settle(qapp)
    widgets = [w for w in qapp.topLevelWidgets() if id(w) not in before and w.isVisible()]
    assert not widgets, f"the test left windows open: {widgets}"
    working = [thing for thing in at_work() if id(thing) not in before]
    assert not working, f"the test left timers or threads running: {working}"
    raised = [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)]
    assert not raised, f"warned: {raised}"


def at_work() -> list[QObject]:
    """Active timers and running Qt threads, whoever owns them: Qt lists neither, Python's collector knows both."""
    # By type, not by isinstance: that would ask objects for their class, and a proxy may do work to answer.
    found = [
        thing for thing in gc.get_objects() if issubclass(type(thing), QTimer | QThread) and isValid(thing)
    ]
    return [
        thing for thing in found if (thing.isActive() if isinstance(thing, QTimer) else thing.isRunning())
    ]


def settle(qapp: QApplication) -> None:
    """Carry out deferred deletes, which outside of exec() nobody does."""
    for _ in range(3):
        qapp.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
        qapp.processEvents()


def on_screen(widget: Shown, qapp: QApplication) -> Iterator[Shown]:
    """For a fixture: a widget that is shown, and gone afterwards."""
    widget.show()
    yield widget
    widget.close()
    widget.deleteLater()
    settle(qapp)
