"""Loads of the real engine in its own process, given up in the real window: also where a hub never answers."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from engine.hosts import open_host
from engine.protocol import EngineState, Generate, Progress, Prompt
from gui.conductor import Conductor
from gui.panels.message_bar import Kind
from tests.gui.building import build, shown

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)

PATIENCE_MS = 90_000  # importing torch on a busy machine
TRIES = 5  # a window that gets little time may see the load's progress only when it is over
OVER = (EngineState.EMPTY, EngineState.READY)


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub that takes every connection and says nothing, ever."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield


@pytest.fixture
def conductor(qapp: QApplication, silent_hub: None) -> Iterator[Conductor]:
    host = open_host("process")
    host.start()
    made = build(host, open_host)
    yield from shown(made, qapp)


@pytest.fixture
def until(qtbot: QtBot) -> Callable[[Callable[[], bool]], None]:
    """Waits, with the window alive, until something holds."""

    def wait(condition: Callable[[], bool]) -> None:
        qtbot.waitUntil(condition, timeout=PATIENCE_MS)

    return wait


def pid(conductor: Conductor) -> int:
    assert conductor.engine.started is not None
    return conductor.engine.started.pid


def test_loads_are_given_up_by_force_by_request_and_for_another_one_and_one_fails(
    conductor: Conductor,
    until: Callable[[Callable[[], bool]], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    window, engine = conductor.window, conductor.engine
    heard: list[Progress] = []
    engine.progress.connect(heard.append)
    until(lambda: engine.state is EngineState.EMPTY)

    first = pid(conductor)
    engine.load("org/never-comes")  # the engine hangs in the hub's client, the window does not
    until(lambda: engine.state is EngineState.LOADING and bool(heard) and "never-comes" in heard[-1].activity)
    window.progress._cancel.click()
    assert window.progress.text == "giving up org/never-comes"
    until(lambda: not engine.is_cancelling)
    assert "was given up" in window.messages.messages()[0].sentence
    until(lambda: engine.state is EngineState.EMPTY)
    if pid(conductor) != first:  # it was ended, since it did not answer
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)

    monkeypatch.setattr("gui.load_watch.PATIENCE_NS", 10**15)  # from here on nothing is ended by force
    second = pid(conductor)
    for _ in range(TRIES):
        heard.clear()
        engine.load("gpt2-124m", "cpu")
        until(lambda: bool(heard))
        window.progress._cancel.click()
        until(lambda: engine.state in OVER)
        if engine.state is EngineState.EMPTY:
            break
    assert engine.state is EngineState.EMPTY
    assert pid(conductor) == second, "this load was given up from within"
    assert engine.wanted_model == ""
    assert len(engine.trace.steps) == 0

    heard.clear()
    engine.load("gpt2-124m", "cpu")
    until(lambda: bool(heard))
    engine.load("tiny", "cpu", (("threads", 1),))
    until(lambda: engine.state is EngineState.READY)
    assert pid(conductor) == second
    assert engine.loaded is not None
    assert engine.loaded.model.name == "tiny"
    assert engine.wanted_model == "tiny"
    assert not engine.is_loading
    assert not window.progress.isVisible()
    assert all(message.kind is not Kind.ERROR for message in window.messages.messages())
    stages = [stage for stage, _ in engine.loaded.model.load_stages_ns]
    assert "probe settings" in stages
    assert "probe settings" in window.model._values["loaded in"].toolTip()

    engine.generate(Generate(Prompt("The night train"), 4, False))
    until(lambda: len(engine.trace.tokens) == 4 and engine.state is EngineState.READY)
    engine.load(str(tmp_path))
    until(lambda: engine.state is EngineState.EMPTY)
    message = window.messages.messages()[0]
    assert message.kind is Kind.ERROR
    assert str(tmp_path) in message.sentence
    assert len(engine.trace.tokens) == 4, "what was measured is kept"
    engine.load("tiny", "cpu")
    until(lambda: engine.state is EngineState.READY)
    assert all(message.kind is not Kind.ERROR for message in window.messages.messages())
