"""The telemetry chart: lanes for what is sampled and for nothing else, on the pixels of the steps."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QApplication

from engine.protocol import DeviceSample, MemorySampled, TelemetryEnded, TelemetrySampled
from engine.trace.store import Trace
from gui import theme as themes
from gui.charts.telemetry import NOT_SAMPLED, SOON, TelemetryChart
from gui.navigation import Navigation
from gui.telemetry_view import lane_words, lanes, line_columns, places, sample_sentences
from tests.engine.trace.building import MS, T0, started, step, trace_of
from tests.gui.conftest import on_screen

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


def trace_on(device: str = "cpu", steps: int = 10) -> Trace:
    """Steps of 100 ms from T0 on, with 50 ms between two."""
    begins = (T0 + row * 150 * MS for row in range(steps))
    trace = trace_of(started(), *(step(stamps=(at, *[at + 1] * 6, at + 100 * MS)) for at in begins))
    assert trace.model is not None
    trace.model = replace(trace.model, device=device)
    return trace


def sample(at_ms: int, **said: object) -> TelemetrySampled:
    return TelemetrySampled(T0 + at_ms * MS, 1, 4, **said)  # type: ignore[arg-type]


@pytest.fixture
def chart(qapp: QApplication) -> Iterator[TelemetryChart]:
    made = TelemetryChart(Navigation())
    made.resize(600, 200)
    yield from on_screen(made, qapp)


def test_a_time_lies_between_the_begin_of_a_step_and_of_the_next() -> None:
    trace = trace_on()
    at_ns = np.array([T0 - 1, T0, T0 + 50 * MS, T0 + 125 * MS, T0 + 200 * MS, T0 + 10**10], np.int64)
    assert places(trace, at_ns).tolist() == [-1.0, 0.0, 0.5, 1.0, 1.5, 10.0]
    assert places(trace_of(), at_ns).tolist() == [-1.0] * 6


def test_only_what_is_sampled_has_a_lane() -> None:
    trace = trace_on()
    assert lanes(trace) == []
    trace.append(sample(0, engine_bytes=2**30))
    trace.append(sample(250, engine_bytes=2**30, engine_cpu=1.0, clock_hz=2e9))
    assert [lane.title for lane in lanes(trace)] == ["memory", "utilization", "clock"]
    trace.append(sample(500, energy_j=10.0))
    assert "power" not in [lane.title for lane in lanes(trace)]  # one reading of a counter is no power
    trace.append(sample(750, energy_j=20.0))
    power = next(lane for lane in lanes(trace) if lane.title == "power")
    assert power.series[0].latest == pytest.approx(40.0)
    assert lane_words(power) == [("power", -1), ("40.0 W", 0), ("peak 40.0 W", -1)]


def test_a_device_s_own_sensors_are_shown_for_a_model_on_it() -> None:
    trace = trace_on("cuda:0")
    board = DeviceSample("cuda:0", 3 * 2**30, 80 * 2**30, 0.9, 300.0, None, 61.0, 1.7e9)
    trace.append(
        sample(0, devices=(board, DeviceSample("cuda:1", power_w=1.0)), temperature_c=40.0, energy_j=1.0)
    )
    trace.append(MemorySampled(T0, 1, 2, 3, 2**30, 2 * 2**30))
    found = {lane.title: lane for lane in lanes(trace)}
    assert [series.name for series in found["power"].series] == ["cuda:0"]
    assert found["temperature"].series[0].latest == 61.0
    names = [series.name for series in found["memory"].series]
    assert names == ["used on cuda:0", "reserved", "allocated", "weights", "KV cache"]


def test_without_a_device_s_sensors_the_processor_s_do_not_stand_for_them() -> None:
    trace = trace_on("cuda:0")
    trace.append(sample(0, temperature_c=40.0, energy_j=1.0, clock_hz=2e9))
    trace.append(sample(250, temperature_c=40.0, energy_j=2.0, clock_hz=2e9))
    assert not {"temperature", "power", "clock"} & {lane.title for lane in lanes(trace)}


def test_what_was_said_last_before_the_end_of_a_step() -> None:
    trace = trace_on()
    trace.append(sample(140, engine_bytes=2**20))
    trace.append(sample(240, engine_bytes=2**21, clock_hz=2e9))
    assert sample_sentences(trace, 0) == []
    assert sample_sentences(trace, 1) == ["memory: 2.00 MiB", "clock: 2.00 GHz"]


def test_a_line_has_one_column_a_pixel_and_none_where_nothing_changes() -> None:
    left = np.array([0, 10, 20, 20, 20, 30, 50], np.int32)
    right = np.array([10, 20, 21, 21, 30, 40, 60], np.int32)
    y = np.array([5, 5, 9, 2, 7, 7, 7], np.int32)
    columns = line_columns(left, right, y)
    assert columns.left.tolist() == [0, 20, 50]
    assert columns.right.tolist() == [20, 40, 60]
    assert columns.top.tolist() == [5, 2, 7]
    assert columns.bottom.tolist() == [5, 9, 7]  # the gap is no riser
    assert columns.last.tolist() == [5, 7, 7]


def test_it_says_why_there_is_nothing_to_see(chart: TelemetryChart) -> None:
    trace = trace_on()
    chart.set_trace(trace)
    chart.refresh()
    assert chart._empty_sentence() == SOON
    chart.set_sampled(False)
    assert chart._empty_sentence() == NOT_SAMPLED
    trace.append(TelemetryEnded(T0, "The process ended."))
    assert chart._empty_sentence() == "The process ended."


def test_it_draws_anew_with_each_sample_and_only_then(chart: TelemetryChart) -> None:
    trace = trace_on()
    chart.set_trace(trace)
    chart._navigation.trace_grew(len(trace.steps))
    for at in range(0, 1000, 250):
        trace.append(sample(at, engine_bytes=(1 + at) * 2**20, engine_cpu=2.0))
    assert chart.refresh()
    assert not chart.refresh()
    picture = chart.grab().toImage()
    rows = [chart._line_rect(place) for place in range(2)]
    colors = [
        {
            picture.pixelColor(x, y).name()
            for x in range(area.left(), area.right())
            for y in range(area.top(), area.bottom())
        }
        for area in rows
    ]
    line = QColor(themes.DARK.series[0]).name()
    assert all(line in found for found in colors)
    trace.append(sample(1_200, engine_bytes=2**20))
    assert chart.refresh()
    for theme in (themes.LIGHT, themes.DARK):
        chart.set_theme(theme)
        assert chart.refresh()


def test_a_sample_lies_over_its_step(chart: TelemetryChart) -> None:
    """Memory is low in steps 0 to 4 and high in 5 to 9: the riser stands where step 5 begins."""
    trace = trace_on()
    chart.set_trace(trace)
    chart._navigation.trace_grew(len(trace.steps))
    chart._navigation.show_range(0, 10)
    for at in range(0, 1500, 30):
        trace.append(sample(at, engine_bytes=(1 if at < 750 else 9) * 2**20))
    chart.refresh()
    picture, area = chart.grab().toImage(), chart._line_rect(0)
    line = QColor(themes.DARK.series[0]).name()
    middle = area.center().y()
    found = [x for x in range(area.left(), area.right()) if picture.pixelColor(x, middle).name() == line]
    assert found == [int(chart.scale().x(5))]


def test_what_is_added_sample_by_sample_is_the_picture_that_is_drawn_at_once(chart: TelemetryChart) -> None:
    begins = [T0 + row * 150 * MS for row in range(40)]
    steps = [step(stamps=(at, *[at + 1] * 6, at + 100 * MS)) for at in begins]
    trace = trace_of(started(), *steps[:2])
    chart.set_trace(trace)
    chart._navigation.trace_grew(40)
    chart._navigation.show_all()
    painted = []
    chart._draw_since = lambda *given, draw=chart._draw_since: (painted.append(given), draw(*given))  # type: ignore[method-assign, misc]
    for number in range(20):
        trace.extend(steps[2 + number : 3 + number])  # later than the samples, as when events are late
        engine = 2**20 * (500 + 97 * number % 400)
        trace.append(sample(100 + 310 * number, engine_bytes=engine, engine_cpu=number % 3))
        trace.append(MemorySampled(T0 + (150 + 310 * number) * MS, 1, 2**28, 2**20 * number, None, None))
        chart.refresh()
        grown = chart._picture.toImage()
        chart._forget()
        chart.refresh()
        assert grown == chart._picture.toImage(), number
    assert len(painted) > 10


@pytest.mark.parametrize(
    ("size", "ceiling"),
    [(900 * 2**20, 2**30), (600 * 2**20, 600 * 2**20), (2**30 * 1.4, 2**30 * 1.5), (3.0, 3.0), (0.0, 1.0)],
)
def test_an_axis_of_bytes_ends_at_a_round_number_of_binary_units(size: float, ceiling: float) -> None:
    trace = trace_on()
    trace.append(sample(0, engine_bytes=size))
    assert lanes(trace)[0].ceiling == pytest.approx(ceiling)


def test_no_line_crosses_the_words(chart: TelemetryChart, qapp: QApplication) -> None:
    trace = trace_on()
    trace.append(sample(0, engine_bytes=2**30, clock_hz=2e9))
    chart.set_trace(trace)
    chart._navigation.trace_grew(len(trace.steps))
    chart.refresh()
    before = chart.grab().toImage()
    words, plot = chart._words_in_plot(), chart.plot_rect()
    assert len(words) == 2
    chart._navigation.select(4)
    chart.refresh()
    after = chart.grab().toImage()
    column = chart.column_rect(4)
    assert all(rect.left() < column.left() < rect.right() for rect in words)
    assert all(after.copy(rect) == before.copy(rect) for rect in words)
    assert after.pixelColor(column.left() - 1, plot.bottom()) == QColor(chart._theme.selection)
