"""What the last change of a setting did, and what can be tried: let both values take turns, compare their outputs."""

from dataclasses import dataclass

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QLabel, QToolButton, QVBoxLayout, QWidget

from engine.protocol import SamenessMeasured
from engine.trace.alternation import PAIR_LOOKS, SelfTest
from engine.trace.effects import AlternationEffect
from engine.trace.statistics import Verdict
from gui import units
from gui.panels.widgets import label, plain_tip, row, set_role, set_text

ALTERNATE_TIP = (
    "Let this value and the one before it take turns, A B B A, in the running generation: a drift of the machine falls"
    " out, and 5 % can be told in some hundred tokens. Press again to stop. (Key: B, for the last change.)"
)
COMPARE_TIP = (
    "Hold the generation for a moment and compare the output with that of the value before: would greedy decoding write"
    " the same, and how far do the distributions of the next token lie apart? (Key: O, for the last change.)"
)


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known of a setting's last change beyond before and after."""

    other: object = None  # the value before; None where nothing can be tried
    alternates: bool = False  # whether it and the value in force can take turns
    alternation: AlternationEffect | None = None
    sameness: SamenessMeasured | None = None
    trust: SelfTest | None = None


class Experiment(QWidget):
    """The effect before and after, two buttons, and what came of them. Hidden while there is none of it."""

    alternate_wished = Signal()
    compare_wished = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._offers = True
        self.alternate = self._button("A/B", ALTERNATE_TIP)
        self.alternate.setCheckable(True)
        self.alternate.clicked.connect(self.alternate_wished)
        self.compare = self._button("Same output?", COMPARE_TIP)
        self.compare.clicked.connect(self.compare_wished)
        self.effect = label("", "number")
        self.effect.setStyleSheet("font-size: 11px;")
        self.turns = self._line()
        self.output = self._line()
        buttons = row(self.effect, spacing=6)
        buttons.addStretch(1)
        buttons.addWidget(self.alternate)
        buttons.addWidget(self.compare)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addLayout(buttons)
        layout.addWidget(self.turns)
        layout.addWidget(self.output)
        self.hide()

    def _button(self, text: str, tip: str) -> QToolButton:
        made = QToolButton()
        made.setText(text)
        made.setToolTip(tip)
        made.setProperty("role", "small")
        made.hide()
        return made

    def _line(self) -> QLabel:
        made = label("", "muted", wrap=True)
        made.setStyleSheet("font-size: 11px;")
        made.hide()
        return made

    def only_show(self) -> None:
        """Offer nothing to try, from now on."""
        self._offers = False

    def show_effect(self, text: str, role: str, tip: str) -> None:
        """Show what was found before and after the change; "" for nothing."""
        set_text(self.effect, text)
        set_role(self.effect, role)
        if self.effect.toolTip() != (shown := plain_tip(tip)):
            self.effect.setToolTip(shown)
        self._appear()

    def _appear(self) -> None:
        said = (self.effect.text(), self.turns.text(), self.output.text())
        self.setVisible(any(said) or not self.compare.isHidden())

    def show_findings(self, found: Findings) -> None:
        """Show what is known, and offer what can be tried."""
        offers = self._offers and found.other is not None
        self.compare.setVisible(offers)
        self.alternate.setVisible(offers and found.alternates)
        self.alternate.setChecked(found.alternation is not None and found.alternation.goes_on)
        self._say(self.turns, *alternation_text(found.alternation))
        self.turns.setToolTip(plain_tip(alternation_tip(found.alternation, found.trust)))
        self._say(self.output, *sameness_text(found.sameness))
        self.output.setToolTip(plain_tip(sameness_tip(found.sameness)))
        self._appear()

    def _say(self, line: QLabel, text: str, role: str) -> None:
        set_text(line, text)
        set_role(line, role)
        line.setVisible(bool(text))


def alternation_text(found: AlternationEffect | None) -> tuple[str, str]:
    """What taking turns showed, or how far it is; and the role of the style sheet to show it in."""
    if found is None:
        return "", "muted"
    effect = found.effect
    if effect.ratio is None:
        wanted = f"{found.pairs} of {PAIR_LOOKS[0]} pairs"
        return f"A/B: {wanted}{'' if found.goes_on else ', too few for a verdict'}", "muted"
    roles = {Verdict.FASTER: "good", Verdict.SLOWER: "danger"}
    text = f"A/B: {units.ratio(effect.ratio)} of {found.second}, {effect.verdict}"
    return text, roles.get(effect.verdict, "muted")


def alternation_tip(found: AlternationEffect | None, trust: SelfTest | None) -> str:
    """How that was found, and how far to trust it."""
    if found is None:
        return ""
    effect = found.effect
    lines = [f"{found.first} against {found.second}, taking turns of {found.turn_steps} step(s)."]
    if effect.ratio is not None and effect.low is not None and effect.high is not None:
        lines.append(
            f"Median ratio of neighbouring turns: {effect.ratio:.3f}×"
            f" (95 % interval {effect.low:.3f} to {effect.high:.3f}, {effect.count} pairs)."
        )
    lines.append(trust_text(trust))
    return "\n".join(lines)


def trust_text(trust: SelfTest | None) -> str:
    """How far verdicts of taking turns can be trusted on this machine, from steps under one configuration."""
    if trust is None:
        return "How far to trust it is known after 256 steps under one configuration."
    share = f"{trust.covered} of {trust.tried} intervals held 1"
    if not trust.holds:
        return f"A against A, {share}, clearly under 95 %: this machine is too restless now to trust such a verdict."
    return f"A against A, {share}; differences below {trust.half_width:.1%} cannot be told here now."


def sameness_text(measured: SamenessMeasured | None) -> tuple[str, str]:
    """Whether the output is the same, in short; and the role of the style sheet to show it in."""
    if measured is None:
        return "", "muted"
    found = measured.sameness
    if found.greedy_is_same and found.top1 == 1.0:
        return f"output: same greedy tokens, KL {found.kl_mean:.1g} nats", "good"
    place = (
        "same greedy tokens"
        if found.greedy_is_same
        else f"greedy differs at token {found.first_difference + 1}"
    )
    return f"output: {place}, top-1 {found.top1:.0%}, KL {found.kl_mean:.2g} nats", "warning"


def sameness_tip(measured: SamenessMeasured | None) -> str:
    """How that was measured."""
    if measured is None:
        return ""
    found = measured.sameness
    against = ", ".join(f"{key} = {value}" for key, value in measured.reference)
    return "\n".join(
        [
            f"Against {against}, before step {measured.step}, fed the same {found.forced} tokens:",
            f"the last {found.text} of the text and {found.forced - found.text} of the other's greedy continuation.",
            f"Most likely token the same: {found.top1:.1%}.",
            f"KL divergence: mean {found.kl_mean:.3g}, 99th percentile {found.kl_p99:.3g} nats.",
            f"Negative log-likelihood of the text: {found.nll_change:+.3g} nats a token.",
            f"Measuring it took {units.duration(measured.took_ns)}.",
        ]
    )
