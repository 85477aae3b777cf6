"""Sensors are read while the window can be seen, and what is wrong with the machine is said."""

from collections.abc import Iterator

import pytest
from PySide6.QtWidgets import QApplication

from engine.protocol import (
    DeviceFacts,
    DeviceSample,
    EngineEnded,
    EngineStarted,
    EngineState,
    StateChanged,
    TelemetryEnded,
    TelemetrySampled,
)
from engine.telemetry.process import Sample
from gui.charts.telemetry import NOT_SAMPLED
from gui.conductor import Conductor
from gui.engine_thread import EngineThread
from gui.main_window import MainWindow
from gui.settings_store import SettingsStore
from tests.engine.trace.building import T0, loaded
from tests.gui import synthetic
from tests.gui.building import Hosts, ScriptedHost
from tests.gui.conducting import say
from tests.gui.conftest import settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)

GPU = DeviceFacts("cuda:0", "a board", 1, 1, "uuid")


class ScriptedTelemetry:
    """Says what a test puts into it, and keeps what it is told."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.watched: list[tuple[int | None, tuple[DeviceFacts, ...]]] = []
        self.looked: list[bool] = []

    def watch(self, engine: int | None, devices: tuple[DeviceFacts, ...] = ()) -> None:
        self.watched.append((engine, devices))

    def look(self, somebody: bool) -> None:
        self.looked.append(somebody)

    def receive(self) -> list[Sample]:
        samples, self.samples = self.samples, []
        return samples

    def stop(self) -> None:
        pass


@pytest.fixture
def telemetry() -> ScriptedTelemetry:
    return ScriptedTelemetry()


@pytest.fixture
def host() -> ScriptedHost:
    return ScriptedHost()


@pytest.fixture
def conductor(qapp: QApplication, host: ScriptedHost, telemetry: ScriptedTelemetry) -> Iterator[Conductor]:
    store = SettingsStore.forgetful()
    window = MainWindow(store, "dark")
    made = Conductor(window, EngineThread(host, Hosts(), parent=window), store, telemetry=telemetry)
    window.show()
    yield made
    made.stop()
    window.close()
    window.deleteLater()
    settle(qapp)


def sentences(conductor: Conductor) -> list[str]:
    return [message.sentence for message in conductor.window.messages.messages()]


def test_the_engine_that_runs_is_watched(
    conductor: Conductor, host: ScriptedHost, telemetry: ScriptedTelemetry
) -> None:
    say(conductor, host, EngineStarted(0, 3, 4_711, (), (GPU,), "", 2))
    assert telemetry.watched[-1] == (4_711, (GPU,))
    say(conductor, host, EngineEnded(0, "It crashed. Restart it.", -9))
    assert telemetry.watched[-1] == (None, ())


def test_nothing_is_read_while_nobody_looks(conductor: Conductor, telemetry: ScriptedTelemetry) -> None:
    conductor.show_numbers()
    conductor.window.showMinimized()
    conductor.show_numbers()
    conductor.window.showNormal()
    conductor.show_numbers()
    conductor.window.hide()
    conductor.show_numbers()
    conductor.window.show()
    assert telemetry.looked == [True, False, True, False]


def test_while_steps_are_made_it_is_read_even_if_nobody_looks(
    conductor: Conductor, host: ScriptedHost, telemetry: ScriptedTelemetry
) -> None:
    say(conductor, host, loaded())
    conductor.window.showMinimized()
    for state in (EngineState.RUNNING, EngineState.PAUSED, EngineState.READY):
        say(conductor, host, StateChanged(0, state))
        conductor.show_numbers()
        assert telemetry.looked[-1] is (state is EngineState.RUNNING)


def test_samples_go_into_the_trace_and_warnings_to_the_status_bar(
    conductor: Conductor, host: ScriptedHost, telemetry: ScriptedTelemetry
) -> None:
    say(conductor, host, loaded())
    shared = DeviceSample("cuda:0", others=((77, 5),))
    telemetry.samples = [
        TelemetrySampled(T0 + n * 10**9, 1, 2, devices=(shared,), on_battery=n > 5) for n in range(3)
    ]
    say(conductor, host)
    assert len(conductor.engine.trace.telemetry) == 3
    assert conductor.window.meter._warnings.text() == "⚠ shared device"
    (sentence,) = sentences(conductor)
    assert "process 77" in sentence
    assert "End it" in sentence
    conductor.window.messages.dismiss_latest()
    telemetry.samples = [TelemetrySampled(T0 + 3 * 10**9, 1, 2, devices=(shared,))]
    say(conductor, host)
    assert sentences(conductor) == []  # it was read, and said once
    telemetry.samples = [TelemetrySampled(T0 + n * 10**9, 1, 2) for n in range(4, 8)]
    say(conductor, host)
    assert conductor.window.meter._warnings.text() == ""


def test_a_message_about_the_machine_goes_with_its_cause(
    conductor: Conductor, host: ScriptedHost, telemetry: ScriptedTelemetry
) -> None:
    say(conductor, host, loaded())
    telemetry.samples = [TelemetrySampled(T0, 1, 2, on_battery=True)]
    say(conductor, host)
    assert "battery" in sentences(conductor)[0]
    telemetry.samples = [TelemetrySampled(T0 + 10**10, 1, 2, on_battery=False)]
    say(conductor, host)
    assert sentences(conductor) == []


def test_without_sensors_no_warning_stays_for_ever(
    conductor: Conductor, host: ScriptedHost, telemetry: ScriptedTelemetry
) -> None:
    say(conductor, host, loaded())
    telemetry.samples = [TelemetrySampled(T0, 1, 2, on_battery=True)]
    say(conductor, host)
    assert conductor.window.meter._warnings.text() == "⚠ on battery"
    telemetry.samples = [TelemetryEnded(T0 + 1, "Sensors are not read any more.")]
    say(conductor, host)
    assert conductor.window.meter._warnings.text() == ""
    assert sentences(conductor) == ["Sensors are not read any more."]
    assert [mark.text for mark in conductor.engine.trace.warnings] == ["on battery"]


def test_missing_sensors_are_told_in_a_sentence(
    conductor: Conductor, host: ScriptedHost, telemetry: ScriptedTelemetry
) -> None:
    telemetry.samples = [TelemetrySampled(T0, 1, 2, notes=("No driver: install one.",))]
    say(conductor, host)
    assert sentences(conductor) == ["No driver: install one."]
    telemetry.samples = [TelemetryEnded(T0, "Sensors are not read any more.")]
    say(conductor, host)
    assert sentences(conductor) == ["Sensors are not read any more."]
    say(
        conductor, host, loaded(), *synthetic.events(3, synthetic.Shape(layers=1))
    )  # another model, another trace
    assert conductor.window.telemetry._empty_sentence() == NOT_SAMPLED


def test_a_sample_does_not_end_what_the_engine_is_at(
    conductor: Conductor, telemetry: ScriptedTelemetry
) -> None:
    from engine.protocol import Progress

    conductor.engine._note_work(Progress(0, "compiling", None))
    telemetry.samples = [TelemetrySampled(T0, 1, 2)]
    conductor.frame()
    assert conductor.engine.work(10**10) is not None
