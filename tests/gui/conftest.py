"""What every test of the window gets: no Qt warning, no widget, no timer left behind, no exception lost in paint."""

import warnings
from collections.abc import Iterator

import pytest
from PySide6.QtCore import QEvent, QTimer
from PySide6.QtWidgets import QApplication


@pytest.fixture(autouse=True)
def qt_is_left_clean(qapp: QApplication) -> Iterator[None]:
    """No top-level widget and no running timer outlives its test; paint raised nothing (pyqtgraph swallows it)."""
    before = set(map(id, qapp.topLevelWidgets()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        yield
        settle(qapp)
    widgets = [w for w in qapp.topLevelWidgets() if id(w) not in before and w.isVisible()]
    assert not widgets, f"the test left windows open: {widgets}"
    timers = [
        timer
        for widget in qapp.topLevelWidgets()
        for timer in widget.findChildren(QTimer)
        if timer.isActive()
    ]
    assert not timers, f"the test left timers running: {timers}"
    raised = [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)]
    assert not raised, f"warned: {raised}"


def settle(qapp: QApplication) -> None:
    """Carry out deferred deletes, which outside of exec() nobody does."""
    for _ in range(3):
        qapp.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
        qapp.processEvents()
