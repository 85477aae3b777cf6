"""The switchboard: every setting by family; a change takes effect between two steps of a running generation."""

from PySide6.QtCore import QPoint, Qt, Signal, Slot
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QApplication, QFrame, QScrollArea, QVBoxLayout, QWidget

from engine.protocol import (
    Configuration,
    Family,
    ModelFacts,
    ModelLoaded,
    SamenessMeasured,
    SettingFacts,
    SettingsChanged,
    SettingValue,
)
from engine.trace.alternation import is_decided
from engine.trace.effects import Effects, Trust, effect_of_alternation
from engine.trace.store import AlternationRecord, Trace
from gui.copying import Copies, offer_copies, table
from gui.panels.experiment import Findings
from gui.panels.setting_family import SettingFamily
from gui.panels.setting_row import SettingRow
from gui.panels.setting_search import SettingSearch, Wanted
from gui.panels.training_probe import TrainingProbe
from gui.panels.widgets import label, plain_tip, set_text, shortened
from gui.settings_store import SettingsStore

CELLS = ("setting", "key", "value", "default", "effect")
TRAINING = "training step"
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

    def __init__(self, store: SettingsStore | None = None) -> None:
        """`store`: remembers which families are unfolded."""
        super().__init__()
        self.rows: dict[str, SettingRow] = {}
        self.families: dict[str, SettingFamily] = {}
        self._store = store or SettingsStore.forgetful()
        self._model: ModelFacts | None = None
        self._only_shows = False
        self._trace = Trace()
        self._effects = Effects(self._trace)
        self._trust = Trust()
        self._scroll = QScrollArea()
        self._scroll.setWidgetResizable(True)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._empty = label("Settings appear when a model is loaded.", "muted", wrap=True)
        self._empty.setContentsMargins(12, 12, 12, 12)
        self._explained = HINT
        self._explanation = label(HINT, "muted", wrap=True)
        self._explanation.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._explanation.setStyleSheet("font-size: 11px;")
        self._explanation.setContentsMargins(12, 6, 12, 6)
        self._explanation.setFixedHeight(54)  # three lines; what is longer is read whole on hover
        self.search = SettingSearch()
        self.search.wanted_changed.connect(self._find)
        self.search.entered.connect(self._enter)
        self._nothing = label("", "muted", wrap=True)
        self._nothing.setContentsMargins(12, 6, 12, 6)
        self._nothing.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._empty)
        layout.addWidget(self.search)
        layout.addWidget(self._nothing)
        layout.addWidget(self._scroll, 1)
        layout.addWidget(_line())
        layout.addWidget(self._explanation)
        self.search.hide()
        self._scroll.hide()
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)  # so that Ctrl+C is meant for it
        offer_copies(self, self.copies)

    def only_show(self) -> None:
        """From now on nothing can be changed or tried here: it shows what was in force, and what that did."""
        self._only_shows = True

    def copies(self, at: QPoint | None) -> Copies:
        """The setting at a place, or with the focus, as a line; and all of them as a table."""
        rows = self.rows.values()
        copies = [("Copy all settings", table([CELLS, *(shown.cells for shown in rows)]))] if rows else []
        under = self.childAt(at) if at is not None else QApplication.focusWidget()
        one = next((shown for shown in rows if under and (shown is under or shown.isAncestorOf(under))), None)
        return copies if one is None else [(f"Copy {one.facts.label}", table([one.cells])), *copies]

    def show_settings(self, loaded: ModelLoaded) -> None:
        """A model was loaded, or is known better: show what can be set for it."""
        was_open = {name: family.is_open for name, family in self.families.items()}
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(4, 0, 4, 8)
        layout.setSpacing(0)
        self.rows = {facts.key: self._make_row(facts) for facts in loaded.settings}
        self.families = self._make_families(loaded)
        for family in self.families.values():
            layout.addWidget(family)
        layout.addStretch(1)
        self._scroll.setWidget(content)
        self._scroll.show()
        self.search.show()
        self._empty.hide()
        self._explain(HINT)
        for mark in self._trace.marks:
            self._show_changes(mark.event)
        self.show_configuration(loaded.effective)
        self._unfold(was_open if loaded.model is self._model else {})
        self._model = loaded.model
        self._find(self.search.wanted)

    def _make_row(self, facts: SettingFacts) -> SettingRow:
        made = SettingRow(facts)
        made.wished.connect(self._wish)
        made.explained.connect(self._explain)
        made.alternate_wished.connect(self.alternate)
        made.compare_wished.connect(self.compare)
        if self._only_shows:
            made.only_show()
        return made

    def _make_families(self, loaded: ModelLoaded) -> dict[str, SettingFamily]:
        """In the order in which they first occur."""
        names = dict.fromkeys(facts.family for facts in loaded.settings)
        made = {
            name: SettingFamily(name, [row for row in self.rows.values() if row.facts.family == name])
            for name in names
        }
        if loaded.model.family is not Family.ENCODER and not self._only_shows:
            probe = TrainingProbe()
            probe.requested.connect(self.training_requested)
            made[TRAINING] = SettingFamily(TRAINING, [], probe)
        for family in made.values():
            family.unfolded.connect(self._store.remember_fold)
        return made

    def _unfold(self, was_open: dict[str, bool]) -> None:
        """Unfold what was, for the same model; for another, what the user left unfolded, or else what is changed."""
        remembered = self._store.folds
        for name, family in self.families.items():
            at_first = remembered.get(name, family.is_changed) and family.is_possible
            family.set_open(was_open.get(name, at_first))

    # ------------------------------------------------------------ finding

    def focus_search(self) -> None:
        """Let the user type what to look for."""
        if self._model is not None:
            self.search.field.setFocus(Qt.FocusReason.ShortcutFocusReason)
            self.search.field.selectAll()

    @Slot(object)
    def _find(self, wanted: Wanted) -> None:
        for family in self.families.values():
            family.show_found(wanted)
        self._say_if_nothing(wanted)

    def _say_if_nothing(self, wanted: Wanted) -> None:
        found = any(not family.isHidden() for family in self.families.values())
        self._nothing.setVisible(not found)
        sought = f"No setting has “{' '.join(wanted.words)}” in its name." if wanted.words else ""
        set_text(self._nothing, sought or "Everything is as at first.")

    @Slot()
    def _enter(self) -> None:
        """Go to the first control that was found and can be used."""
        for row in self.rows.values():
            if row.isVisible() and row.control.isEnabled():
                self._scroll.ensureWidgetVisible(row)
                row.focus_control()
                return

    # ------------------------------------------------------------ what is in force

    def show_configuration(self, effective: Configuration) -> None:
        """Show the values in force."""
        values = dict(effective)
        for key, shown in self.rows.items():
            if key in values:
                shown.show_value(values[key])
        sampling = values.get(STRATEGY, SAMPLING) == SAMPLING
        for key in SAMPLING_ONLY & self.rows.keys():
            self.rows[key].close_for("" if sampling else "Only sampling uses this: choose sampling first.")
        for family in self.families.values():
            family.refresh()
        self._say_if_nothing(self.search.wanted)

    def show_change(self, event: SettingsChanged) -> None:
        """A change was made, or refused."""
        self._show_changes(event)
        self.show_configuration(event.effective)

    def _show_changes(self, event: SettingsChanged) -> None:
        for change in event.changes:
            if change.key in self.rows:
                self.rows[change.key].show_change(change)

    def set_trace(self, trace: Trace) -> None:
        """Measure effects on another trace."""
        self._trace = trace
        self._effects = Effects(trace)
        self.refresh_effects()

    def refresh_effects(self) -> None:
        """Show what the last change of each setting did; called a few times a second."""
        alternations = {record.started.key: record for record in self._trace.alternations}
        trusted = self._trust.of(self._trace) if alternations else None
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
        if running is None or self._only_shows:
            return
        if is_decided(effect_of_alternation(self._trace, running).effect):
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
        """What the foot of the panel says, on hover if it is long."""
        return self._explained

    def _explain(self, text: str) -> None:
        self._explained = text
        inside = self._explanation.contentsRect()
        set_text(self._explanation, shortened(text, self._explanation, inside.width(), inside.height()))
        self._explanation.setToolTip(plain_tip(text))

    def _wish(self, key: str, value: SettingValue) -> None:
        self.change_requested.emit(((key, value),))


def _is_about(measured: SamenessMeasured, key: str) -> bool:
    return [name for name, _ in measured.reference] == [key]


def _line() -> QFrame:
    made = QFrame()
    made.setFrameShape(QFrame.Shape.NoFrame)
    made.setFixedHeight(1)
    made.setBackgroundRole(QPalette.ColorRole.Mid)
    made.setAutoFillBackground(True)
    return made
