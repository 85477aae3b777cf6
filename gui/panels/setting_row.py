"""One setting on the switchboard: its control, what is in force, why that is not what was asked for, what it did."""

from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject, QSignalBlocker, Qt, Signal, Slot
from PySide6.QtGui import QEnterEvent, QStandardItemModel, QWheelEvent
from PySide6.QtWidgets import (
    QComboBox,
    QCompleter,
    QDoubleSpinBox,
    QHBoxLayout,
    QLineEdit,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from engine.protocol import SettingChange, SettingFacts, SettingValue
from engine.trace.effects import MeasuredEffect
from engine.trace.statistics import Verdict
from gui import units
from gui.panels.experiment import Experiment
from gui.panels.widgets import Segments, inset, label, plain_tip

MOST_SEGMENTS = 4
NARROW = 276  # pixels: a row where the panel is as narrow as it gets; what does not fit into it is a menu
NUMBER_WIDTH = 104
HEIGHT = 26
LARGEST = 2**31 - 1  # of a spin box


class SettingRow(QWidget):
    """Shows one setting. What the user wishes for is only said (`wished`); what is shown is what the engine has."""

    wished = Signal(str, object)  # key, value
    explained = Signal(str)  # what to say about what is under the pointer or has the focus
    alternate_wished = Signal(str)  # key: let the value before take turns, or end that
    compare_wished = Signal(str)  # key: compare the output with that of the value before

    def __init__(self, facts: SettingFacts) -> None:
        super().__init__()
        self.facts = facts
        self._value: SettingValue = facts.default
        self._closed = ""
        self._only_shows = False
        self._effect = ""
        self._title = label(facts.label)
        self._refusal = label("", "warning", wrap=True, selectable=True)
        self._refusal.setStyleSheet("font-size: 11px;")
        self._refusal.hide()
        self.experiment = Experiment()
        self.experiment.alternate_wished.connect(self._alternate)
        self.experiment.compare_wished.connect(self._compare)
        self._show: Callable[[SettingValue], None]
        self.control = self._make_control()
        self.control.setAccessibleName(facts.label)
        self.control.installEventFilter(self)
        self._lay_out()
        self._enable()

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self._title, 2)
        head.addWidget(self.control, 3 if self.facts.kind in ("choice", "text") else 0)
        if not isinstance(self.control, Segments):
            self.control.setFixedHeight(HEIGHT)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addLayout(head)
        layout.addWidget(self._refusal)
        layout.addWidget(self.experiment)

    # ------------------------------------------------------------ what is in force

    def show_value(self, value: SettingValue) -> None:
        """Show the value in force."""
        self._value = value
        with QSignalBlocker(self.control):
            self._show(value)

    def show_change(self, change: SettingChange) -> None:
        """Show what came of a wish: where something else is in force than was asked for, the reason stays visible."""
        differs = not _is_same(change.requested, change.effective) or bool(change.reason)
        reason = change.reason or "something else is in force"
        self._refusal.setText(f"asked for {self._name(change.requested)}: {reason}" if differs else "")
        self._refusal.setVisible(differs)

    def show_effect(self, measured: MeasuredEffect | None) -> None:
        """Show what the last change of this setting did."""
        tip = effect_tip(measured, self._name) if measured else ""
        self._effect, role = effect_text(measured)
        self.experiment.show_effect(self._effect, role, tip)

    def focus_control(self) -> None:
        """Put the focus on what changes it."""
        control = self.control
        if isinstance(control, Segments):
            enabled = [made for made in control.buttons if made.isEnabled()]
            control = next((made for made in enabled if made.isChecked()), enabled[0])
        control.setFocus(Qt.FocusReason.ShortcutFocusReason)

    def close_for(self, reason: str) -> None:
        """Make the control unusable for a while ("" opens it again), with the reason on hover."""
        if reason != self._closed:
            self._closed = reason
            self._enable()

    def only_show(self) -> None:
        """From now on nothing can be changed or tried: it shows what was in force, and what that did."""
        self._only_shows = True
        self.control.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        for part in (self.control, *self.control.findChildren(QWidget)):
            part.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.experiment.only_show()
        self._enable()

    @property
    def cells(self) -> tuple[str, str, str, str, str]:
        """The setting as cells of a table: name, key, value in force, default, what its last change did."""
        facts = self.facts
        return facts.label, facts.key, str(self._value), str(facts.default), self._effect

    @property
    def value_text(self) -> str:
        """The value in force, as people call it."""
        return self._name(self._value) or "none"

    @property
    def is_changed(self) -> bool:
        """Whether something else than the default is in force."""
        return not _is_same(self._value, self.facts.default)

    @property
    def is_possible(self) -> bool:
        """Whether it can be changed on this model and device."""
        facts = self.facts
        if facts.reason:
            return False
        if facts.kind == "choice":
            return sum(not choice.reason for choice in facts.choices) > 1
        return facts.kind == "text" or facts.maximum > facts.minimum

    @property
    def refusal(self) -> str:
        """What was asked for and is not in force, with the reason; "" where all is as it was asked for."""
        return f"{self.facts.label}: {self._refusal.text()}" if self._refusal.text() else ""

    @property
    def search_text(self) -> str:
        """What it can be found by."""
        facts = self.facts
        return " ".join((facts.label, facts.key, *(choice.label for choice in facts.choices)))

    @property
    def explanation(self) -> str:
        """What this setting is expected to do, and what is impossible here and why."""
        facts = self.facts
        if facts.reason or self._closed:
            return f"{facts.label}: {facts.reason or self._closed}"
        lines = [f"{facts.label}: {facts.expected}" if facts.expected else facts.label]
        lines += [f"Not possible here: {c.label}. {c.reason}" for c in facts.choices if c.reason]
        lossy = [c.label for c in facts.choices if c.lossless is False and not c.reason]
        if not facts.lossless:
            lines.append("It may change the text.")
        elif lossy:
            lines.append(f"These may change the text: {', '.join(lossy)}.")
        return "\n".join(lines)

    def _name(self, value: object) -> str:
        text = f"{value:g}" if isinstance(value, float) else str(value)
        return next((c.label for c in self.facts.choices if str(c.value) == str(value)), text)

    def _enable(self) -> None:
        reason = "" if self._only_shows else self.facts.reason or self._closed
        self.control.setEnabled(not reason)
        self._title.setEnabled(not reason)
        self.setToolTip(plain_tip(reason or self.facts.expected))

    # ------------------------------------------------------------ controls

    def _make_control(self) -> QWidget:
        if self.facts.kind == "text":
            return self._make_text()
        if self.facts.kind != "choice":
            return self._make_number()
        if len(self.facts.choices) <= MOST_SEGMENTS:
            segments = self._make_segments()
            if self._title.sizeHint().width() + 8 + segments.sizeHint().width() <= NARROW:
                return segments
            segments.deleteLater()
        return self._make_combo()

    def _make_segments(self) -> Segments:
        choices = self.facts.choices
        segments = Segments([c.label for c in choices])
        for made, choice in zip(segments.buttons, choices, strict=True):
            made.setEnabled(not choice.reason)
            made.setToolTip(plain_tip(choice.reason or choice.expected))
        segments.chosen.connect(self._choose)
        segments.pointed.connect(self._point)
        self._show = lambda value: segments.show_choice(self._place(value))
        return segments

    def _make_combo(self) -> QWidget:
        combo = _Combo()
        model = combo.model()
        assert isinstance(model, QStandardItemModel)
        for place, choice in enumerate(self.facts.choices):
            combo.addItem(choice.label)
            item = model.item(place)
            item.setEnabled(not choice.reason)
            item.setToolTip(plain_tip(choice.reason or choice.expected))
        combo.activated.connect(self._choose)
        combo.highlighted.connect(self._point)
        self._show = lambda value: combo.setCurrentIndex(self._place(value))
        return combo

    def _make_text(self) -> QWidget:
        edit = QLineEdit()
        edit.setPlaceholderText("none")
        edit.setCompleter(QCompleter([str(c.value) for c in self.facts.choices], edit))
        edit.editingFinished.connect(lambda: self._wish(edit.text().strip()))
        self._show = lambda value: edit.setText(str(value))
        return edit

    def _make_number(self) -> QWidget:
        facts = self.facts
        if facts.kind == "integer":
            whole = _Spin()
            whole.setRange(int(facts.minimum), min(LARGEST, int(facts.maximum)))
            whole.setSingleStep(max(1, int(facts.increment)))
            whole.valueChanged.connect(self._wish)
            self._show = lambda value: whole.setValue(min(LARGEST, int(value)))
            spin: QSpinBox | QDoubleSpinBox = whole
        else:
            real = _DoubleSpin()
            real.setDecimals(2)
            real.setRange(facts.minimum, facts.maximum)
            real.setSingleStep(facts.increment)
            real.valueChanged.connect(self._wish)
            self._show = lambda value: real.setValue(float(value))
            spin = real
        inset(spin)
        spin.setKeyboardTracking(False)
        spin.setFixedWidth(NUMBER_WIDTH)
        reach = f"({facts.minimum:g} to {facts.maximum:g} {facts.unit})".replace(" )", ")")
        spin.setToolTip(plain_tip(f"{facts.expected} {reach}"))
        return spin

    def _place(self, value: SettingValue) -> int:
        return next((i for i, c in enumerate(self.facts.choices) if str(c.value) == str(value)), -1)

    def _choose(self, place: int) -> None:
        wanted = self.facts.choices[place].value
        self._show(self._value)  # what is in force, until the engine says otherwise
        self._wish(wanted)

    def _wish(self, value: SettingValue) -> None:
        if value != self._value and not self._only_shows:
            self.wished.emit(self.facts.key, value)

    @Slot()
    def _alternate(self) -> None:
        self.alternate_wished.emit(self.facts.key)

    @Slot()
    def _compare(self) -> None:
        self.compare_wished.emit(self.facts.key)

    # ------------------------------------------------------------ explaining

    def _point(self, place: int) -> None:
        if place < 0:
            return
        choice = self.facts.choices[place]
        said = f"Not possible here: {choice.reason}" if choice.reason else choice.expected
        self.explained.emit(f"{self.facts.label}, {choice.label}: {said or self.facts.expected}")

    def enterEvent(self, event: QEnterEvent) -> None:
        """Explain what is under the pointer."""
        self.explained.emit(self.explanation)
        super().enterEvent(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Explain what has the focus."""
        if event.type() == QEvent.Type.FocusIn:
            self.explained.emit(self.explanation)
        return super().eventFilter(watched, event)


class _Combo(QComboBox):
    """Does not change when the panel is scrolled over it, and takes the focus by Tab only."""

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)

    def showPopup(self) -> None:
        """As wide as the longest choice, which the closed box need not be."""
        self.view().setMinimumWidth(self.view().sizeHintForColumn(0) + 2 * self.view().frameWidth() + 16)
        super().showPopup()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the wheel to the panel."""
        event.ignore()


class _Spin(QSpinBox):
    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the wheel to the panel, unless the number is being edited."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class _DoubleSpin(QDoubleSpinBox):
    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the wheel to the panel, unless the number is being edited."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


def _is_same(one: SettingValue, other: SettingValue) -> bool:
    """Whether two values mean the same: what was typed or given on a command line may be a text."""
    return one == other or str(one) == str(other)


def effect_text(measured: MeasuredEffect | None) -> tuple[str, str]:
    """What to show of an effect, and in which role of the style sheet."""
    if measured is None:
        return "", "muted"
    effect = measured.effect
    if effect.ratio is None:
        return "too few steps yet" if effect.count else "", "muted"
    roles = {Verdict.FASTER: "good", Verdict.SLOWER: "danger"}
    return f"{units.ratio(effect.ratio)} {effect.verdict}", roles.get(effect.verdict, "muted")


def effect_tip(measured: MeasuredEffect, name: Callable[[object], str]) -> str:
    """How an effect was found."""
    effect, change = measured.effect, measured.change
    before = f"{name(measured.before)} → " if measured.before is not None else ""
    lines = [f"{before}{name(change.effective)}, before step {measured.mark.step}"]
    if effect.ratio is None or effect.low is None or effect.high is None:
        lines.append(
            "Too few steady decode steps on both sides yet: no number is shown before there are 64 each."
        )
    else:
        lines.append(
            f"Median time of a decode step, after / before: {effect.ratio:.3f}×"
            f" (95 % interval {effect.low:.3f} to {effect.high:.3f})."
        )
        lines.append("What growing context alone would have done is taken out.")
        if effect.verdict is Verdict.UNCLEAR and not effect.low <= 1 <= effect.high:
            lines.append(
                "But steps themselves moved the other way: the machine may have changed, so let the values take turns"
                " (B)."
            )
    lines.append(f"{effect.count} blocks of 8 steps; {effect.warm_up} steps of warm-up left out.")
    lines.append(f"The switch itself took {units.duration(measured.mark.event.switch_ns)}.")
    if measured.together:
        lines.append(f"Changed together with: {', '.join(measured.together)}.")
    return "\n".join(lines)
