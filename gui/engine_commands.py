"""Commands that an engine is simply told, as methods."""

from engine.protocol import (
    NEXT_STEP,
    Alternate,
    CancelLoad,
    CaptureStep,
    Command,
    Configuration,
    CountTokens,
    Join,
    ListModels,
    LookUp,
    MeasureSameness,
    Pause,
    ProbeTraining,
    Resume,
    SettingValue,
    SingleStep,
    Stop,
    StopAlternating,
)
from engine.trace.store import Trace


class EngineCommands:
    """Of whoever has an engine, and the trace of what it said."""

    trace: Trace

    def _send(self, command: Command) -> None:
        """Tell it to the engine, or say that there is none."""
        raise NotImplementedError

    def _wonder(self, question: CountTokens | LookUp) -> None:
        """Ask the engine; nobody is told where there is none."""
        raise NotImplementedError

    def join(self, command: Join) -> None:
        """Add a sequence to the running generation at the next step boundary."""
        self._send(command)

    def pause(self) -> None:
        """Wait at the next step boundary."""
        self._send(Pause())

    def resume(self) -> None:
        """Go on after a pause."""
        self._send(Resume())

    def single_step(self) -> None:
        """Do one step and pause."""
        self._send(SingleStep())

    def stop(self) -> None:
        """End the generation at the next step boundary."""
        self._send(Stop())

    def give_up_switch(self) -> None:
        """Give up the load of a model that a switch waits for; `settings_changed` tells that it was refused."""
        self._send(CancelLoad())

    def count_tokens(self, question: CountTokens) -> None:
        """Ask how many tokens a prompt has; `tokens_counted` answers. Nobody is told where there is no engine."""
        self._wonder(question)

    def look_up(self, question: LookUp) -> None:
        """Ask what is known of a model; `looked_up` answers. Nobody is told where there is no engine."""
        self._wonder(question)

    def list_models(self) -> None:
        """Ask what models there are; `catalogue` answers."""
        self._send(ListModels())

    def alternate(self, key: str, value: SettingValue) -> None:
        """Let a value take turns with the one in force."""
        self._send(Alternate(key, value))

    def stop_alternating(self) -> None:
        """Let values take turns no more."""
        self._send(StopAlternating())

    def measure_sameness(self, reference: Configuration) -> None:
        """Compare the output with that under other values; the trace has the answer."""
        self._send(MeasureSameness(reference))

    def probe_training(self, command: ProbeTraining) -> None:
        """Make a training step between two steps of the generation."""
        self._send(command)

    def capture_step(self, row: int | None = None) -> None:
        """Look into a step of the trace, whose work is done again, or into the next one."""
        self._send(CaptureStep(NEXT_STEP if row is None else row + self.trace.first_index))
