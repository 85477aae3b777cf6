"""Everything that can be done by menu, toolbar or key: one table."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from PySide6.QtCore import QObject, Qt, Slot
from PySide6.QtGui import QAction, QKeySequence

from gui.icons import icon
from gui.theme import Theme


@dataclass(frozen=True, slots=True)
class ActionFacts:
    """One thing that can be done. `keys`: the first is shown."""

    name: str
    text: str
    group: str
    keys: tuple[str, ...] = ()
    icon: str = ""
    tip: str = ""
    checkable: bool = False
    in_recordings_only: bool = False


ACTIONS = (
    ActionFacts("run", "Run", "Run", ("Space",), "run", "Run, pause, go on"),
    ActionFacts("step", "Single step", "Run", ("N",), "step", "Do one step, then wait"),
    ActionFacts(
        "step_back",
        "Step back",
        "Run",
        ("Shift+N",),
        "step_back",
        "Take one step back, then wait",
        in_recordings_only=True,
    ),
    ActionFacts("stop", "Stop", "Run", ("X",), "stop", "End this generation"),
    ActionFacts(
        "generate", "Run from the prompt", "Run", ("Ctrl+Return", "Ctrl+Enter"), "", "Begin a new generation"
    ),
    ActionFacts(
        "join",
        "Join the running generation with this prompt",
        "Run",
        ("J",),
        "",
        "Add the prompt as a sequence to the generation that runs; the others wait while it is read",
    ),
    ActionFacts(
        "capture",
        "Capture a step in depth",
        "Run",
        ("K",),
        "",
        "Run the selected step again, or else the next one, under the profiler: operations and kernels",
    ),
    ActionFacts("save_capture", "Save the capture as a Chrome trace…", "Run"),
    ActionFacts(
        "clear", "Clear", "Run", ("L",), "clear", "Drop what was measured (a generation that runs is ended)"
    ),
    ActionFacts("follow", "Follow", "Charts", ("F",), "follow", "Keep the newest step on screen", True),
    ActionFacts("zoom_in", "Zoom in", "Charts", ("W", "+", "=")),
    ActionFacts("zoom_out", "Zoom out", "Charts", ("S", "-")),
    ActionFacts("pan_left", "Move to earlier steps", "Charts", ("A",)),
    ActionFacts("pan_right", "Move to later steps", "Charts", ("D",)),
    ActionFacts("show_all", "Show all steps", "Charts", ("0",)),
    ActionFacts("previous", "Select the step before", "Charts", (",", "Left")),
    ActionFacts("next", "Select the next step", "Charts", (".", "Right")),
    ActionFacts("slowest", "Select the slowest step on screen", "Charts", ("M",)),
    ActionFacts("deselect", "Deselect, or dismiss a message", "Charts", ("Esc",)),
    ActionFacts(
        "note",
        "Write a note on a step…",
        "Charts",
        ("T",),
        "",
        "Write or change a note on the selected step, or else on the newest",
    ),
    ActionFacts("role", "Layer map: attention, MLP, rest", "Charts", ("R",)),
    ActionFacts(
        "alternate", "A/B the last change", "Run", ("B",), "", "Let the values of the last change take turns"
    ),
    ActionFacts(
        "compare",
        "Compare the output",
        "Run",
        ("O",),
        "",
        "Is the output the same as before the last change?",
    ),
    ActionFacts(
        "instrument",
        "Measure the instrument",
        "Run",
        ("I",),
        "",
        "Let marks take turns with none, then drawing with a still window, and say what each costs; again to stop",
    ),
    ActionFacts(
        "calibrate",
        "Measure this machine",
        "Run",
        ("Ctrl+M",),
        "",
        "Measure how fast this machine reads and multiplies: floors stand on it",
    ),
    ActionFacts("roofline", "Show the roofline", "Charts", ("G",)),
    ActionFacts("cycle_model", "Show the cycle model", "Charts", ("Y",)),
    ActionFacts("pin", "Pin as reference", "Charts", ("H",), "", "Pin what was measured as a reference"),
    ActionFacts("pin_screen", "Pin the steps on screen as reference", "Charts"),
    ActionFacts("pin_session", "Pin a recorded session as reference…", "Charts"),
    ActionFacts("unpin", "Unpin the reference", "Charts", ("Shift+H",)),
    ActionFacts("axis", "Latency against steps or length", "Charts", ("C",)),
    ActionFacts("pick", "Choose a model…", "Session", ("Ctrl+O",), "model"),
    ActionFacts(
        "sessions",
        "Sessions…",
        "Session",
        ("Ctrl+H",),
        "",
        "What was recorded: open, name, pin or delete it",
    ),
    ActionFacts(
        "open",
        "Open a session file…",
        "Session",
        ("Ctrl+Shift+O",),
        "",
        "Show a recording, in a window of its own",
    ),
    ActionFacts("prompt", "Edit the prompt", "Session", ("Ctrl+L", "P")),
    ActionFacts("find", "Find a setting", "Session", ("Ctrl+F", "/")),
    ActionFacts("picture", "Save a picture of the window", "Session", ("Ctrl+S",), "camera"),
    ActionFacts(
        "export",
        "Export…",
        "Session",
        ("Ctrl+E",),
        "",
        "Write what was measured as a table, a trace or a report",
    ),
    ActionFacts(
        "command",
        "Copy as command",
        "Session",
        ("Ctrl+Shift+C",),
        "",
        "The command line that repeats the latest run without a window",
    ),
    ActionFacts(
        "record",
        "Record sessions",
        "Session",
        (),
        "",
        "Write what is measured into files on this machine, so that nothing is lost and it can be replayed",
        True,
    ),
    ActionFacts("restart", "Restart the engine", "Session", ("Ctrl+R",)),
    ActionFacts("quit", "Quit", "Session", ("Ctrl+Q",)),
    ActionFacts("theme", "Switch between dark and light", "View", ("Ctrl+T",), "theme"),
    ActionFacts("reset_layout", "Reset the layout", "View"),
    ActionFacts("shortcuts", "Keys", "Help", ("?", "F1"), "help", "All keys"),
)


class Actions(QObject):
    """The actions of the table, by name."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._actions = {facts.name: self._make(facts) for facts in ACTIONS}
        self._does: dict[str, Callable[[], object]] = {}

    def __getitem__(self, name: str) -> QAction:
        return self._actions[name]

    def all(self) -> Iterable[QAction]:
        """Every action, in the order of the table."""
        return self._actions.values()

    def on(self, name: str, do: Callable[[], object]) -> None:
        """Have an action do something."""
        self._does[name] = do
        self[name].triggered.connect(self._act)

    @Slot()
    def _act(self) -> None:
        sender = self.sender()
        if sender is not None:
            self._does[sender.objectName()]()

    def set_theme(self, theme: Theme) -> None:
        """Tint the icons for a theme."""
        for facts in ACTIONS:
            if facts.icon:
                self[facts.name].setIcon(icon(facts.icon, theme))

    def _make(self, facts: ActionFacts) -> QAction:
        made = QAction(facts.text, self)
        made.setObjectName(facts.name)
        made.setCheckable(facts.checkable)
        made.setVisible(not facts.in_recordings_only)
        made.setShortcuts([QKeySequence(key) for key in facts.keys])
        made.setShortcutContext(Qt.ShortcutContext.WindowShortcut)
        key = f" ({key_text(made)})" if facts.keys else ""
        made.setToolTip((facts.tip or facts.text) + key)
        return made


def key_text(action: QAction) -> str:
    """An action's first key, as it is written on this system."""
    return action.shortcut().toString(QKeySequence.SequenceFormat.NativeText)
