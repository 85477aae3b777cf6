"""What leaves the window, with a scripted engine: exports, pictures, the command line, and copied text."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from engine.commands import generate_of, make_prompt, parse_settings, parser
from engine.protocol import (
    CatalogueEntry,
    CatalogueListed,
    EngineState,
    Failed,
    Generate,
    GenerationStarted,
    Load,
    ModelLoaded,
    Prompt,
    SettingFacts,
    StateChanged,
)
from engine.trace.export import FORMATS
from engine.trace.export import formats as format_module
from gui.conductor import Conductor
from gui.panels.export_dialog import SOME
from gui.panels.measurements import MeasurementsPanel
from tests.engine.trace.export import trace_events
from tests.gui import synthetic
from tests.gui.building import Hosts, ScriptedHost, build, shown

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support", extend=True)

FACTS = SettingFacts("attention", "attention", "Attention kernel", "choice", "eager")


@pytest.fixture
def host() -> ScriptedHost:
    return ScriptedHost()


@pytest.fixture
def window(
    host: ScriptedHost, qapp: QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Conductor]:
    monkeypatch.chdir(tmp_path)
    made = build(host, Hosts(), load=Load("demo", "cpu"))
    yield from shown(made, qapp)


def say(window: Conductor, host: ScriptedHost, *events: object) -> None:
    host.events += events  # type: ignore[arg-type]
    window.frame()


def loaded() -> ModelLoaded:
    return replace(synthetic.loaded(3), settings=(FACTS,))


@pytest.fixture
def run(window: Conductor, host: ScriptedHost) -> Conductor:
    """A run of 200 steps, asked for by the prompt panel."""
    say(window, host, StateChanged(0, EngineState.READY), loaded())
    window.window.prompt.set_text("a prompt")
    window.running.generate()
    say(window, host, *synthetic.events(200, synthetic.Shape(layers=3, generation_steps=400, mark_every=90)))
    while window.engine.drain():
        pass
    window.frame()
    return window


def said(window: Conductor) -> str:
    return next((message.sentence for message in window.window.messages.messages()), "")


def finished(window: Conductor, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not window.sharing.exporter.is_busy)


def test_nothing_measured_is_said(window: Conductor) -> None:
    assert window.sharing.export() is None
    assert "nothing to export" in said(window)
    window.sharing.copy_command()
    assert "no run to repeat" in said(window)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_written_from_the_window(
    run: Conductor, suffix: str, qtbot: QtBot, tmp_path: Path
) -> None:
    if FORMATS[suffix].why_not():
        pytest.skip(FORMATS[suffix].why_not())
    run.window.actions_["export"].trigger()
    dialog = run.sharing.export()
    assert dialog is not None
    assert dialog.path == tmp_path / "cyclograph-synthetic.html"
    dialog.choose_format(suffix)
    dialog.accept()
    finished(run, qtbot)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files
    assert all(name.startswith("cyclograph-synthetic") and name.endswith(suffix) for name in files)
    assert said(run).startswith("Exported to ")


def test_a_selection_while_the_run_goes_on(
    run: Conductor, host: ScriptedHost, qtbot: QtBot, tmp_path: Path
) -> None:
    dialog = run.sharing.export()
    assert dialog is not None
    dialog.choose_format(".json")
    dialog.choose_scope(SOME)
    dialog._first.setValue(20)
    dialog._last.setValue(29)
    dialog.accept()
    more = list(synthetic.events(260, synthetic.Shape(layers=3, generation_steps=400)))[2 + 200 :]
    say(run, host, *more)
    finished(run, qtbot)
    parsed = trace_events.read((tmp_path / "cyclograph-synthetic.json").read_bytes())
    assert [each.name for each in parsed.slices[1] if not each.depth] == [
        f"decode step {n}" for n in range(20, 30)
    ]


def test_a_long_export_can_be_cancelled(
    run: Conductor, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = Event()

    def slow(_excerpt: object, file: object, tick: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        while not go_on.wait(0.01):
            tick(0.5)  # type: ignore[operator]

    monkeypatch.setitem(FORMATS, ".txt", format_module.Format(".txt", "Text", "slow", slow))
    dialog = run.sharing.export()
    assert dialog is not None
    dialog.choose_format(".txt")
    dialog.accept()
    qtbot.waitUntil(lambda: said(run) == "The export is being written.")
    again = run.sharing.export()
    assert again is not None
    again.accept()
    assert "Another export" in said(run)
    run.sharing.exporter.cancel()
    finished(run, qtbot)
    assert "given up" in said(run)
    assert list(tmp_path.iterdir()) == []


def test_closing_ends_an_export(
    run: Conductor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: QtBot
) -> None:
    def endless(_excerpt: object, file: object, tick: object) -> None:
        while True:
            tick(0.1)  # type: ignore[operator]

    monkeypatch.setitem(FORMATS, ".txt", format_module.Format(".txt", "Text", "endless", endless))
    dialog = run.sharing.export()
    assert dialog is not None
    dialog.choose_format(".txt")
    dialog.accept()
    run.stop()
    assert not run.sharing.exporter.is_busy
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_a_message(
    run: Conductor, tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cyclograph-synthetic.txt"

    def write(_excerpt: object, file: object, _tick: object) -> None:
        path.write_text("came meanwhile")

    monkeypatch.setitem(FORMATS, ".txt", format_module.Format(".txt", "Text", "slow", write))
    dialog = run.sharing.export()
    assert dialog is not None
    dialog.choose_format(".txt")
    dialog.accept()
    finished(run, qtbot)
    assert "is there already" in said(run)
    assert path.read_text() == "came meanwhile"


# ---------------------------------------------------------------- pictures


def test_pictures_are_saved_and_copied(run: Conductor, tmp_path: Path, qapp: QApplication) -> None:
    strip = run.window.strip
    strip.copy_wished.emit(strip)
    assert qapp.clipboard().image().width() == 2 * strip.width()
    for suffix in (".png", ".svg"):
        dialog = run.sharing.save_picture(strip)
        dialog.kind.setCurrentIndex(dialog.kind.findData(suffix))
        dialog.scale_box.setValue(1.5)
        dialog.width_box.setValue(600)
        dialog.accept()
        assert "is in" in said(run)
    assert QImage(str(tmp_path / "cyclograph-synthetic-token-strip.png")).width() == 900
    (svg,) = tmp_path.glob("*.svg")
    assert svg.read_bytes().startswith(b"<?xml")


# ---------------------------------------------------------------- the command


def test_the_command_repeats_what_was_asked_for(
    run: Conductor, host: ScriptedHost, qapp: QApplication
) -> None:
    sent = [command for command in host.sent if isinstance(command, Generate)]
    run.sharing.copy_command()
    words = shlex.split(qapp.clipboard().text())
    options = parser().parse_args(words[3:])
    assert generate_of(options, make_prompt(options, options.prompt)) == sent[-1]
    assert (options.model, options.device) == ("demo", "cpu")
    assert parse_settings(options.set) == ()
    assert [entry.split(":")[0] for entry in options.at] == ["90", "180"]
    assert "can be pasted" in said(run)


def test_a_command_that_was_refused_is_not_taken_for_the_run(
    run: Conductor, host: ScriptedHost, qapp: QApplication
) -> None:
    run.engine.generate(Generate(Prompt("refused, too long")))
    say(run, host, Failed(0, "too long", command="generate"))
    run.sharing.copy_command()
    assert "'--prompt=a prompt'" in qapp.clipboard().text()
    run.engine.generate(Generate(Prompt("the next"), 9))
    started = GenerationStarted(7, 10**12, 0, "the next", (1,), 9)
    say(run, host, started)
    run.sharing.copy_command()
    assert "'--prompt=the next'" in qapp.clipboard().text()
    assert "--max-new-tokens=9" in qapp.clipboard().text()


# ---------------------------------------------------------------- copied text


def at(panel: MeasurementsPanel, key: str) -> QPoint:
    found = next(
        w for w in panel.findChildren(object) if getattr(w, "property", lambda _: "")("metric") == key
    )
    return found.mapTo(panel, found.rect().center())


def test_measurements_can_be_copied(run: Conductor, qapp: QApplication) -> None:
    run.show_numbers()
    panel = run.window.measurements
    (one, text), (every, rows) = panel.copies(at(panel, "itl_p95"))
    assert (one, every) == ("Copy ITL p95", "Copy all measurements")
    assert text.startswith("ITL p95\t")
    assert text.endswith(" ms")
    head, *lines = rows.splitlines()
    assert head.split("\t") == ["metric", "value", "unit", "n"]
    exact = {line.split("\t")[0]: line.split("\t")[1:] for line in lines}
    measured = panel.measured["ttft"]
    assert exact["time to first token"] == [str(int(measured.value or 0)), "ns", "1"]
    panel.setFocus()
    QTest.keyClick(panel, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert qapp.clipboard().text() == rows
    assert panel.copies(at(panel, "ttft"))[0][1].startswith("first token\t")  # a headline


def test_settings_can_be_copied(run: Conductor) -> None:
    board = run.window.switchboard
    row = board.rows["attention"]
    board.families["attention"].set_open(True)
    (one, line), (_, rows) = board.copies(row.mapTo(board, row.rect().center()))
    assert one == "Copy Attention kernel"
    assert line.split("\t")[:4] == ["Attention kernel", "attention", "eager", "eager"]
    assert rows.splitlines()[0].split("\t") == ["setting", "key", "value", "default", "effect"]
    assert line in rows.splitlines()


def test_models_can_be_copied(run: Conductor, host: ScriptedHost, qapp: QApplication) -> None:
    run.picking.pick_model()
    entry = CatalogueEntry("a\tb\nc", "preset", "Llama", 10**8, 4 * 10**8, 2048)
    say(run, host, CatalogueListed(0, (entry,), ()))
    picker = run.picking.picker
    assert picker is not None
    (_, line), (_, rows) = picker.table.copies(None)
    assert line.split("\t")[0] == "a b c"  # a row stays a line
    assert line in rows.splitlines()
    index = picker.table.currentIndex()
    place = picker.table.viewport().mapTo(picker.table, picker.table.visualRect(index).center())
    assert picker.table.copies(place)[0] == ("Copy this model", line)
    picker.reject()


def test_json_lines_from_the_window_hold_every_step(run: Conductor, qtbot: QtBot, tmp_path: Path) -> None:
    dialog = run.sharing.export()
    assert dialog is not None
    dialog.choose_format(".jsonl")
    dialog.accept()
    finished(run, qtbot)
    lines = (tmp_path / "cyclograph-synthetic.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [record for record in map(json.loads, lines) if record["event"] == "step"]
    assert [step["wall_ns"] for step in steps] == run.engine.trace.steps.wall_ns.tolist()
