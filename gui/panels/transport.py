"""The transport bar of a recording: play, steps, speed, and a slider along recorded time."""

from PySide6.QtCore import QEvent, QSignalBlocker, Qt, Signal, Slot
from PySide6.QtGui import QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLabel, QSlider, QStyle, QToolButton, QWidget

from engine.replay import ALL_AT_ONCE
from gui.actions import Actions
from gui.panels.widgets import label, set_text

SPEEDS = {
    "¼×": 0.25,
    "½×": 0.5,
    "1×": 1.0,
    "2×": 2.0,
    "5×": 5.0,
    "20×": 20.0,
    "all at once": ALL_AT_ONCE,
}
NS_A_TICK = 1_000_000  # of the slider: a millisecond, of which 24 days fit
LONGEST_TICKS = 2**31 - 1
HANDLE = 14  # pixels, by the style sheet
KEY_STEPS, KEY_PAGES = 200, 20  # how many keys it takes from one end to the other
SLIDER_KEYS = {
    *(Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Up, Qt.Key.Key_Down),
    *(Qt.Key.Key_Home, Qt.Key.Key_End, Qt.Key.Key_PageUp, Qt.Key.Key_PageDown),
}


class TransportBar(QWidget):
    """Says what is wished for, and shows where the recording stands. Play and steps are actions of the window."""

    speed_chosen = Signal(float)
    place_wished = Signal(object)  # int: recorded time, ns, which may be more than a C int

    def __init__(self, actions: Actions) -> None:
        super().__init__()
        self.setAccessibleName("Transport")
        self.speed = self._make_speed()
        self.slider = ScrubSlider()
        self.slider.valueChanged.connect(self._wish)
        self.time = _number("Recorded time: elapsed and total")
        self.steps = _number("Step")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(10, 6, 12, 6)
        layout.setSpacing(8)
        for name in ("step_back", "run", "step"):
            layout.addWidget(_button(actions, name))
        layout.addWidget(self.speed)
        layout.addWidget(self.slider, 1)
        layout.addSpacing(4)
        layout.addWidget(self.time)
        layout.addSpacing(8)
        layout.addWidget(self.steps)

    def _make_speed(self) -> QComboBox:
        made = QComboBox()
        made.addItems(list(SPEEDS))
        made.setCurrentText("1×")
        made.setAccessibleName("Speed")
        made.setToolTip("How fast recorded time passes. All at once: playing shows the end.")
        made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        made.currentTextChanged.connect(self._choose)
        return made

    def show_place(self, position_ns: int, length_ns: int, step: int, steps: int) -> None:
        """Show where the recording stands. The slider stays where it is while it is being dragged."""
        with QSignalBlocker(self.slider):
            self.slider.set_length(length_ns)
            if not self.slider.isSliderDown():
                self.slider.setValue(_ticks(position_ns))
        tenths = length_ns < 60_000_000_000
        set_text(self.time, f"{clock_text(position_ns, tenths)} / {clock_text(length_ns, tenths)}")
        set_text(self.steps, f"step {step:,} of {steps:,}")
        for part in (self.time, self.steps):  # as wide as ever was needed, so that the slider does not move
            part.setMinimumWidth(max(part.minimumWidth(), part.sizeHint().width()))

    @Slot(int)
    def _wish(self, ticks: int) -> None:
        self.place_wished.emit(ticks * NS_A_TICK)

    @Slot(str)
    def _choose(self, text: str) -> None:
        self.speed_chosen.emit(SPEEDS[text])


class ScrubSlider(QSlider):
    """Along recorded time. A click goes there; arrows, Page and Home/End keys are its own while it has the focus."""

    def __init__(self) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.setAccessibleName("Place in the recording")
        self.setToolTip("Where the recording stands. Drag, or use the arrow keys.")
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.set_length(0)

    def set_length(self, length_ns: int) -> None:
        """Recorded time from end to end, rounded up to a whole tick."""
        ticks = _ticks(length_ns + NS_A_TICK - 1)
        if ticks != self.maximum():
            self.setMaximum(ticks)
            self.setSingleStep(max(1, ticks // KEY_STEPS))
            self.setPageStep(max(1, ticks // KEY_PAGES))

    def event(self, event: QEvent) -> bool:
        """Keep the keys that move it, which elsewhere select steps."""
        if (
            event.type() == QEvent.Type.ShortcutOverride
            and isinstance(event, QKeyEvent)
            and event.key() in SLIDER_KEYS
            and not event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
        ):
            event.accept()
            return True
        return super().event(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Go to where it was pressed, and be dragged on from there."""
        if event.button() == Qt.MouseButton.LeftButton:
            room, x = self.width() - HANDLE, round(event.position().x()) - HANDLE // 2
            self.setValue(QStyle.sliderValueFromPosition(0, self.maximum(), x, room))
        super().mousePressEvent(event)


def _ticks(ns: int) -> int:
    return min(ns // NS_A_TICK, LONGEST_TICKS)


def _number(name: str) -> QLabel:
    made = label("", "number")
    made.setAccessibleName(name)
    made.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    return made


def _button(actions: Actions, name: str) -> QToolButton:
    made = QToolButton()
    made.setDefaultAction(actions[name])
    made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonIconOnly)
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    return made


def clock_text(ns: int, tenths: bool) -> str:
    """A time as a player shows it: "0:07", "1:02:03", with tenths of a second where wanted; rounded down."""
    whole, part = divmod(ns // 100_000_000, 10)
    minutes, seconds = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"{text}.{part}" if tenths else text
