"""The switchboard: every setting by family; a change takes effect between two steps of a running generation."""

from itertools import groupby

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from engine.protocol import (
    Configuration,
    Family,
    ModelLoaded,
    SamenessMeasured,
    SettingFacts,
    SettingsChanged,
    SettingValue,
)
from engine.trace.alternation import is_decided
from engine.trace.effects import Effects, effect_of_alternation, trust
from engine.trace.store import AlternationRecord, Trace
from gui.panels.experiment import Findings
from gui.panels.setting_row import SettingRow
from gui.panels.training_probe import TrainingProbe
from gui.panels.widgets import label, set_text

STRATEGY, SAMPLING = "decoding", "sample"
SAMPLING_ONLY = frozenset({"temperature", "top_k", "top_p", "min_p", "seed"})
HINT = "Point at a setting to read what it is expected to do."


class Switchboard(QWidget):
    """All settings that the loaded model has."""

    change_requested = Signal(object)  # Configuration
    alternation_requested = Signal(str, object)  # key, value to take turns with the one in force
    alternation_stopped = Signal()
    training_requested = Signal(object)  # ProbeTraining
    sameness_requested = Signal(object)  # Configuration: what differs in the reference

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, SettingRow] = {}
        self._trace = Trace()
        self._effects = Effects(self._trace)
        self._scroll = QScrollArea()
        self._scroll.setWidgetResizable(True)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._empty = label("Settings appear when a model is loaded.", "muted", wrap=True)
        self._empty.setContentsMargins(12, 12, 12, 12)
        self._explanation = label(HINT, "muted", wrap=True)
        self._explanation.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._explanation.setStyleSheet("font-size: 11px;")
        self._explanation.setContentsMargins(12, 6, 12, 6)
        self._explanation.setFixedHeight(92)  # six lines: what is impossible has its reasons here
        line = QFrame()
        line.setFrameShape(QFrame.Shape.NoFrame)
        line.setFixedHeight(1)
        line.setBackgroundRole(QPalette.ColorRole.Mid)
        line.setAutoFillBackground(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._empty)
        layout.addWidget(self._scroll, 1)
        layout.addWidget(line)
        layout.addWidget(self._explanation)
        self._scroll.hide()

    def show_settings(self, loaded: ModelLoaded) -> None:
        """A model was loaded: show what can be set for it."""
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(12, 6, 12, 12)
        layout.setSpacing(9)
        self.rows = {}
        for family, group in groupby(_by_family(loaded), lambda facts: facts.family):
            members = list(group)
            if len(members) > 1:  # a family of one needs no title over its label
                title = label(family.upper(), "section")
                title.setContentsMargins(0, 6, 0, 0)
                layout.addWidget(title)
            for facts in members:
                made = SettingRow(facts)
                made.wished.connect(self._wish)
                made.explained.connect(self._explain)
                made.alternate_wished.connect(self.alternate)
                made.compare_wished.connect(self.compare)
                layout.addWidget(made)
                self.rows[facts.key] = made
        if loaded.model.family is not Family.ENCODER:
            probe = TrainingProbe()
            probe.requested.connect(self.training_requested)
            layout.addWidget(probe)
        layout.addStretch(1)
        self._scroll.setWidget(content)
        self._scroll.show()
        self._empty.hide()
        self._explain(HINT)
        self.show_configuration(loaded.effective)

    def show_configuration(self, effective: Configuration) -> None:
        """Show the values in force."""
        values = dict(effective)
        for key, shown in self.rows.items():
            if key in values:
                shown.show_value(values[key])
        sampling = values.get(STRATEGY, SAMPLING) == SAMPLING
        for key in SAMPLING_ONLY & self.rows.keys():
            self.rows[key].close_for("" if sampling else "Only sampling uses this: choose sampling first.")

    def show_change(self, event: SettingsChanged) -> None:
        """A change was made, or refused."""
        for change in event.changes:
            if change.key in self.rows:
                self.rows[change.key].show_change(change)
        self.show_configuration(event.effective)

    def set_trace(self, trace: Trace) -> None:
        """Measure effects on another trace."""
        self._trace = trace
        self._effects = Effects(trace)
        self.refresh_effects()

    def refresh_effects(self) -> None:
        """Show what the last change of each setting did; called a few times a second."""
        alternations = {record.started.key: record for record in self._trace.alternations}
        trusted = trust(self._trace) if alternations else None
        for key, shown in self.rows.items():
            measured = self._effects.of(key)
            shown.show_effect(measured)
            alternation = alternations.get(key)
            shown.experiment.show_findings(
                Findings(
                    other=measured.before if measured else None,
                    alternates=bool(shown.facts.turn_steps),
                    alternation=effect_of_alternation(self._trace, alternation) if alternation else None,
                    sameness=next((s for s in reversed(self._trace.sameness) if _is_about(s, key)), None),
                    trust=trusted,
                )
            )
        self._end_what_is_decided()

    def _running_alternation(self) -> AlternationRecord | None:
        latest = self._trace.alternations[-1] if self._trace.alternations else None
        return latest if latest is not None and latest.ended is None else None

    def _end_what_is_decided(self) -> None:
        running = self._running_alternation()
        if running is not None and is_decided(effect_of_alternation(self._trace, running).effect):
            self.alternation_stopped.emit()

    def last_changed(self) -> str | None:
        """The setting that was changed last; None before any was."""
        for mark in reversed(self._trace.marks):
            for change in mark.event.changes:
                found = self._effects.of(change.key) if change.key in self.rows else None
                if found is not None and found.mark is mark:
                    return change.key
        return None

    @Slot(str)
    def alternate(self, key: str) -> None:
        """Let the value before the last change of a setting take turns with the one in force, or end that."""
        if self._running_alternation() is not None:
            self.alternation_stopped.emit()
            return
        measured = self._effects.of(key)
        if measured is not None and measured.before is not None:
            self.alternation_requested.emit(key, measured.before)

    @Slot(str)
    def compare(self, key: str) -> None:
        """Compare the output with that of the value before the last change of a setting."""
        measured = self._effects.of(key)
        if measured is not None and measured.before is not None:
            self.sameness_requested.emit(((key, measured.before),))

    @property
    def explanation(self) -> str:
        """What the foot of the panel says."""
        return self._explanation.text()

    def _explain(self, text: str) -> None:
        set_text(self._explanation, text)
        self._explanation.setToolTip(text)

    def _wish(self, key: str, value: SettingValue) -> None:
        self.change_requested.emit(((key, value),))


def _is_about(measured: SamenessMeasured, key: str) -> bool:
    return [name for name, _ in measured.reference] == [key]


def _by_family(loaded: ModelLoaded) -> list[SettingFacts]:
    """Settings with those of a family together, families in the order in which they first occur."""
    families = list(dict.fromkeys(facts.family for facts in loaded.settings))
    return sorted(loaded.settings, key=lambda facts: families.index(facts.family))
