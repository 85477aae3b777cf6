"""Loads and other long work, as the window shows them, gives them up and asks for them again."""

from time import perf_counter_ns

import pytest
from PySide6.QtWidgets import QApplication

from engine.protocol import (
    CancelLoad,
    CatalogueEntry,
    EngineState,
    Failed,
    Load,
    LoadCancelled,
    LookedUp,
    Progress,
    SettingChange,
    SettingsChanged,
    StateChanged,
)
from gui.conductor import Conductor
from tests.gui.building import Hosts, ScriptedHost, build
from tests.gui.conducting import conductor as conductor
from tests.gui.conducting import host as host
from tests.gui.conducting import hosts as hosts
from tests.gui.conducting import loaded, ready, say
from tests.gui.conftest import settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


def downloading(fraction: float) -> Progress:
    total = 2 * 2**30
    done = round(fraction * total)
    return Progress(0, "downloading model.safetensors", fraction, "download", done, total, 1, 5, 2.0**20)


def test_loading_shows_progress_and_can_be_cancelled(
    conductor: Conductor, host: ScriptedHost, hosts: Hosts
) -> None:
    progress = conductor.window.progress
    say(conductor, host, StateChanged(0, EngineState.LOADING))
    assert progress.text == "loading preset"
    say(conductor, host, Progress(0, "reading weights", 0.5, "read weights"))
    assert progress.isVisible()
    assert progress.text == "reading weights"
    progress._cancel.click()
    assert host.sent == [CancelLoad()]
    assert progress.text == "giving up preset"
    assert not progress._cancel.isVisible()
    say(conductor, host, Progress(0, "reading weights", 0.6, "read weights"))
    assert progress.text == "giving up preset", "whatever else comes meanwhile"
    say(conductor, host, LoadCancelled(0, "preset"), StateChanged(0, EngineState.EMPTY))
    assert not progress.isVisible()
    assert host.ended == ""
    (message,) = conductor.window.messages.messages()
    assert "preset was given up" in message.sentence
    message.action_button.click()
    assert host.sent[-1] == Load("preset")
    assert conductor.window.messages.messages() == []


def test_a_load_that_a_switch_waits_for_is_shown_and_can_be_given_up_while_a_generation_waits(
    conductor: Conductor, host: ScriptedHost
) -> None:
    ready(conductor, host)
    window, progress = conductor.window, conductor.window.progress
    say(conductor, host, StateChanged(0, EngineState.RUNNING))
    say(conductor, host, Progress(0, "compiling the decode step", None))
    assert progress.isVisible()
    assert progress.text == "compiling the decode step"
    assert not progress._cancel.isVisible(), "nothing can end the compiler early"
    said = Progress(0, "reading weights", 0.5, "read weights")
    say(conductor, host, said, LookedUp(0, 1, CatalogueEntry("org/model", "hub", "Llama", 7, 28, 8192)))
    assert progress.text == "reading weights"
    assert window.heading.text == "RUNNING"
    assert window.actions_["stop"].isEnabled()
    progress._cancel.click()
    assert host.sent == [CancelLoad()]
    refused = SettingChange("speculation", "draft", "off", "Loading was given up.")
    say(conductor, host, SettingsChanged(0, 60, (refused,), 5, 1, loaded().effective))
    assert not progress.isVisible()
    assert window.heading.text == "RUNNING"
    assert "Loading was given up." in window.messages.messages()[0].sentence

    say(conductor, host, Progress(perf_counter_ns(), "reading weights", 0.1, "read weights"))
    assert not progress.isVisible(), "what is over soon does not flash"


def test_a_download_says_how_far_it_is_and_goes_on_after_a_cancel(
    conductor: Conductor, host: ScriptedHost
) -> None:
    say(conductor, host, StateChanged(0, EngineState.LOADING), downloading(0.25))
    assert conductor.window.progress.details == "512 MiB of 2.00 GiB · file 2 of 5 · 1.00 MiB/s · 26 min left"
    conductor.window.progress._cancel.click()
    say(conductor, host, LoadCancelled(0, "preset"), StateChanged(0, EngineState.EMPTY))
    (message,) = conductor.window.messages.messages()
    assert "what has come is kept" in message.sentence
    assert message.action_button.text() == "Resume"
    message.action_button.click()
    assert host.sent == [CancelLoad(), Load("preset")]


def test_a_download_that_is_ended_by_force_can_be_resumed(
    conductor: Conductor, host: ScriptedHost, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gui.load_watch.PATIENCE_NS", 0)
    say(conductor, host, StateChanged(0, EngineState.LOADING), downloading(0.25))
    conductor.window.progress._cancel.click()
    conductor.frame()
    assert host.ended == "killed"
    assert conductor.window.progress.text == "starting the engine"
    assert not conductor.window.progress._cancel.isVisible()
    (message,) = conductor.window.messages.messages()
    message.action_button.click()
    assert hosts.opened[1].sent == [Load("preset")]


def test_a_download_that_fails_can_be_resumed_and_a_bad_model_cannot(
    conductor: Conductor, host: ScriptedHost
) -> None:
    failed = Failed(0, "The download failed: try again.", "Timeout", "load")
    say(conductor, host, StateChanged(0, EngineState.LOADING), downloading(0.5), failed)
    say(conductor, host, StateChanged(0, EngineState.EMPTY))
    (message,) = conductor.window.messages.messages()
    assert message.action_button.text() == "Resume"
    message.action_button.click()
    assert host.sent == [Load("preset")]
    bad = Failed(0, "There is no such model.", "", "load")
    say(conductor, host, StateChanged(0, EngineState.LOADING), bad, StateChanged(0, EngineState.EMPTY))
    (message,) = conductor.window.messages.messages()
    assert not hasattr(message, "action_button")


def test_a_load_is_cancelled_while_the_engine_starts(conductor: Conductor, host: ScriptedHost) -> None:
    progress = conductor.window.progress
    say(conductor, host, StateChanged(0, EngineState.STARTING), Progress(0, "importing torch", 0.0))
    assert progress._cancel.isVisible()
    progress._cancel.click()
    assert host.sent == [CancelLoad()]
    say(conductor, host, StateChanged(0, EngineState.EMPTY), StateChanged(0, EngineState.LOADING))
    assert progress.text == "giving up preset"


def test_an_engine_that_starts_without_a_model_has_nothing_to_cancel(
    qapp: QApplication, hosts: Hosts
) -> None:
    conductor = build(hosts("process"), hosts)
    conductor.window.show()
    say(conductor, hosts.opened[0], Progress(0, "importing torch", 0.0))
    assert conductor.window.progress.isVisible()
    assert not conductor.window.progress._cancel.isVisible()
    conductor.window.close()
    conductor.window.deleteLater()
    settle(qapp)
