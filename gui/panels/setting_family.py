"""A family of settings: a header that says what of it is not as at first, and its rows, which fold away below it."""

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QPointF, QSize, Qt, Signal, Slot
from PySide6.QtGui import QKeyEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget

from gui.panels.setting_row import SettingRow
from gui.panels.setting_search import Wanted
from gui.panels.widgets import ElidedLabel, label, plain_tip, row, set_role, set_text

UNAVAILABLE = "unavailable"
KEYS = (Qt.Key.Key_Space, Qt.Key.Key_Return, Qt.Key.Key_Enter)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a header says beside the name: `text` in a role of the style sheet, and how many settings were refused."""

    text: str
    role: str
    refused: int
    tip: str


def summary_of(family: str, rows: Sequence[SettingRow]) -> Summary:
    """What differs from the defaults; else that nothing is possible; else what is in force, where that is one thing."""
    changed = [shown for shown in rows if shown.is_changed]
    refusals = [shown.refusal for shown in rows if shown.refusal]
    said = [_said(family, shown, len(rows) == 1) for shown in changed]
    tip = "\n".join([*said, *refusals])
    if changed:
        count = f"{len(changed)}: " if len(changed) > 1 else ""
        return Summary(count + ", ".join(said), "changed", len(refusals), tip)
    if rows and not any(shown.is_possible for shown in rows):
        return Summary(UNAVAILABLE, "faint", len(refusals), tip or "Nothing of it is possible here.")
    leading = [shown for shown in rows if len(rows) == 1 or _is_named(family, shown)]
    return Summary(leading[0].value_text if leading else "", "muted", len(refusals), tip)


def _said(family: str, shown: SettingRow, is_only: bool) -> str:
    """A setting with its value; the value alone where the family, or the value itself, says what it is of."""
    value = shown.value_text
    speaks = shown.facts.kind == "choice" and value[:1].isupper() and len(value) > len("None")
    return value if is_only or speaks or _is_named(family, shown) else f"{shown.facts.label} {value}"


def _is_named(family: str, shown: SettingRow) -> bool:
    return shown.facts.label.casefold() == family.casefold()


class SettingFamily(QWidget):
    """A header and what folds away below it: `rows`, or (`other`) what is no setting."""

    unfolded = Signal(str, bool)  # name, whether: the user did it

    def __init__(self, name: str, rows: Sequence[SettingRow], other: QWidget | None = None) -> None:
        super().__init__()
        self.name = name
        self.rows = list(rows)
        self._wanted = Wanted()
        self._is_open = False
        self.header = FamilyHeader(name[:1].upper() + name[1:])
        self.header.clicked.connect(self._turn)
        self._body = QWidget()
        body = QVBoxLayout(self._body)
        body.setContentsMargins(20, 2, 4, 8)
        body.setSpacing(6)
        for shown in (*self.rows, *([other] if other else [])):
            body.addWidget(shown)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.header)
        layout.addWidget(self._body)
        self._body.hide()  # the family itself is shown by whom it is put into: alone it would be a window

    @property
    def is_open(self) -> bool:
        """Whether its rows are unfolded (while something is looked for, what is found is shown all the same)."""
        return self._is_open

    @property
    def is_possible(self) -> bool:
        """Whether anything of it can be changed here."""
        return not self.rows or any(shown.is_possible for shown in self.rows)

    @property
    def is_changed(self) -> bool:
        """Whether anything of it is not as at first, or was refused."""
        return any(shown.is_changed or shown.refusal for shown in self.rows)

    def set_open(self, opened: bool) -> None:
        """Unfold it, or fold it."""
        self._is_open = opened
        self._arrange()

    def refresh(self) -> None:
        """Say what is so now."""
        self.header.show_summary(summary_of(self.name, self.rows))
        if self._wanted.changed:
            self._arrange()

    def show_found(self, wanted: Wanted) -> None:
        """Show what is looked for, and nothing else."""
        self._wanted = wanted
        self._arrange()

    def _arrange(self) -> None:
        wanted = self._wanted
        for shown in self.rows:
            shown.setVisible(
                wanted.finds(f"{self.name} {shown.search_text}")
                and (not wanted.changed or shown.is_changed or bool(shown.refusal))
            )
        found = any(not shown.isHidden() for shown in self.rows)
        if not self.rows:
            found = not wanted.changed and wanted.finds(self.name)
        self.setVisible(found)
        opened = found and (self._is_open or not wanted.is_everything)
        self._body.setVisible(opened)
        self.header.show_open(opened)

    @Slot()
    def _turn(self) -> None:
        if self._wanted.is_everything:  # else all that was found is shown
            self.set_open(not self._is_open)
            self.unfolded.emit(self.name, self._is_open)


class FamilyHeader(QPushButton):
    """Name and summary. A click folds and unfolds, Space and Enter do where it has the focus."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._is_open = False
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # a click leaves Space to run and pause
        self.setProperty("role", "fold")
        self.summary = ElidedLabel("muted")
        self.refused = label("", "warning")
        self.refused.hide()
        layout = self._layout = row(label(name, "family"), spacing=8)
        layout.addWidget(self.summary, 1)
        layout.addWidget(self.refused)
        layout.setContentsMargins(20, 3, 6, 3)
        self.setLayout(layout)
        for part in self.findChildren(QWidget):
            part.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)

    def sizeHint(self) -> QSize:
        """What its labels need."""
        return self._layout.sizeHint()

    def minimumSizeHint(self) -> QSize:
        """What its labels need at least."""
        return self._layout.minimumSize()

    def show_summary(self, summary: Summary) -> None:
        """Say what is so now."""
        set_text(self.summary, f"· {summary.text}" if summary.text else "")
        set_role(self.summary, summary.role)
        set_text(self.refused, f"⚠ {summary.refused}" if summary.refused else "")
        self.refused.setVisible(bool(summary.refused))
        self.setToolTip(plain_tip(summary.tip))
        self._name_it()

    def show_open(self, opened: bool) -> None:
        """Point down where the rows are shown, else at what is folded away."""
        self._is_open = opened
        self._name_it()
        self.update()

    def _name_it(self) -> None:
        """For who hears the window instead of seeing it."""
        refused = f"{self.refused.text()[2:]} refused" if self.refused.text() else ""
        parts = (self._name, self.summary.text().removeprefix("· "), refused)
        state = "unfolded" if self._is_open else "folded"
        self.setAccessibleName(", ".join(filter(None, (*parts, state))))

    def event(self, event: QEvent) -> bool:
        """Keep the keys that fold: elsewhere Space runs and pauses."""
        if (
            event.type() == QEvent.Type.ShortcutOverride
            and isinstance(event, QKeyEvent)
            and event.key() in KEYS
            and not event.modifiers()
        ):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Fold and unfold."""
        if event.key() in KEYS and not event.modifiers():
            self.click()
        else:
            super().keyPressEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        """The ground of a button, and an arrow."""
        super().paintEvent(event)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(self.summary.palette().color(self.foregroundRole()), 1.5))
        painter.translate(10, self.height() / 2)
        if self._is_open:
            painter.rotate(90)
        painter.drawPolyline([QPointF(-2, -4), QPointF(2, 0), QPointF(-2, 4)])
        painter.end()
