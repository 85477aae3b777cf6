"""Two values of a setting that take turns between steps, A B B A, so that what each does can be told from drift."""

from time import perf_counter_ns
from typing import TYPE_CHECKING

from engine.protocol import Alternate, AlternationEnded, AlternationStarted, SettingValue
from engine.trace.alternation import is_second

if TYPE_CHECKING:
    from engine.runtime.workbench import Workbench

#: Steps of a turn: 1 where switching leaves no trace in the next step, 4 where it disturbs the processor's caches. A
#: setting that is not here costs too much to switch, or changes what a step is.
TURN_STEPS = {
    "attention": 1,
    "threads": 1,
    "detail": 1,
    "grad_mode": 1,
    "sampling_place": 1,
    "top_p_method": 1,
    "matmul_precision": 1,
    "precision": 4,
    "quantization": 4,
    "sparsity": 4,
    "mlp_pruning": 4,
}


class AlternationRefused(Exception):
    """These values cannot take turns. The message is one sentence for people; nothing was changed."""


class Alternation:
    """Turns of two values on a workbench with a generation under way. Raises AlternationRefused."""

    def __init__(self, bench: "Workbench", command: Alternate) -> None:
        self._bench = bench
        facts = next((facts for facts in bench.facts if facts.key == command.key), None)
        if facts is None or not facts.turn_steps:
            raise AlternationRefused(
                f"'{command.key}' cannot take turns with another value: switching it costs more than a step, or changes"
                " what a step is. Switch it once, and compare before and after."
            )
        self.key = command.key
        self._turn_steps = facts.turn_steps
        self._done = 0  # steps that yielded tokens
        self._second_in_force = False
        self.first, first_configuration, first_effective = (
            self._value(),
            bench.configuration,
            bench.effective(),
        )
        self.second = self._try(command.value)
        second_effective = bench.effective()
        self._put(self.first)
        self._configurations = first_configuration, bench.next_configuration()
        bench.emit(
            AlternationStarted(
                perf_counter_ns(),
                bench.step_index,
                self.key,
                self.first,
                self.second,
                self._turn_steps,
                self._configurations,
                (first_effective, second_effective),
            )
        )

    def _value(self) -> SettingValue:
        return dict(self._bench.effective())[self.key]

    def _try(self, value: SettingValue) -> SettingValue:
        reason = self._put(value)
        found = self._value()
        if reason or found == self.first:
            self._put(self.first)
            raise AlternationRefused(reason or f"'{self.key}' is {self.first} already: choose another value.")
        return found

    def _put(self, value: SettingValue) -> str:
        """Put a value into force; why not, or ""."""
        (change,) = self._bench.apply(((self.key, value),))
        return change.reason

    def before_step(self) -> bool:
        """Put the value into force whose turn it is; whether that was a switch. Raises AlternationRefused."""
        second = is_second(self._done // self._turn_steps)
        if second == self._second_in_force:
            return False
        reason = self._put(self.second if second else self.first)
        if reason:
            raise AlternationRefused(reason)
        self._second_in_force = second
        self._bench.configuration = self._configurations[second]
        return True

    @property
    def is_due(self) -> bool:
        """Whether the other value's turn begins behind the step under way, if that yields tokens."""
        return is_second((self._done + 1) // self._turn_steps) != self._second_in_force

    def after_step(self, yielded: bool) -> None:
        """A step was made; only those that yield tokens are counted."""
        self._done += yielded

    def end(self, reason: str = "") -> None:
        """Put the first value back, and say so."""
        if self._second_in_force:
            reason = self._put(self.first) or reason
        self._bench.configuration = self._configurations[0]
        self._bench.emit(
            AlternationEnded(perf_counter_ns(), self._bench.step_index, self._configurations[0], reason)
        )
