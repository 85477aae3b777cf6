"""What is wanted of an engine: a model, settings, generations. It outlives the engine that was asked first."""

from engine.protocol import Configuration, Generate, GenerationStarted, Load, SettingValue

PLACE = "engine_place"  # changed by whoever starts engines, since one cannot move itself,
PLACEMENT = "placement"  # and by a load, since a loaded model stays where it is


class WantedModel:
    """The model that was asked for last, and what was asked for of each setting that the user touched.

    `load`: None when there was none, or it was given up. `last`: the same, whatever became of it.
    """

    def __init__(self) -> None:
        self.load: Load | None = None
        self.last: Load | None = None
        self.requested: dict[str, SettingValue] = {}

    def want(self, load: Load) -> None:
        """Another model is wanted, under its settings."""
        self.load = self.last = load
        self.requested = _without_place(load.settings)

    def change(self, settings: Configuration) -> None:
        """Other values are wanted."""
        self.requested |= _without_place(settings)

    def give_up(self) -> None:
        """No model is wanted; the last one may be again."""
        self.load = None

    @property
    def settings(self) -> Configuration:
        """What was asked for of settings, as a load takes it."""
        return tuple(sorted(self.requested.items()))

    def load_as_set(self) -> Load | None:
        """The load of the same model with what is wanted of settings now."""
        return Load(self.load.model, self.load.device, self.settings) if self.load else None


class WantedGenerations:
    """Which command each generation was asked for by."""

    def __init__(self) -> None:
        self.latest: Generate | None = None
        self._sent: list[Generate] = []  # those of which nothing has been heard
        self._known: dict[int, Generate] = {}  # by the number that the engine gave them

    def sent(self, command: Generate) -> None:
        """A command is on its way to the engine."""
        self.latest = command
        self._sent.append(command)

    def begun(self, event: GenerationStarted) -> None:
        """Find which command has begun: those sent before it came to nothing."""
        for place, command in enumerate(self._sent):
            if _asks_for(command, event):
                self._known[event.generation] = command
                del self._sent[: place + 1]
                return

    def command_of(self, generation: int) -> Generate | None:
        """What a generation was asked for by; None where that is not known."""
        return self._known.get(generation)

    def begin_anew(self, goes_on: bool) -> None:
        """Another engine has heard of nothing; where the trace `goes_on`, what is in it is still asked about."""
        self._sent = []
        if not goes_on:
            self._known = {}


def _asks_for(command: Generate, event: GenerationStarted) -> bool:
    """Whether a generation can be what a command asked for, by the text that the model sees."""
    prompt = command.prompt
    if prompt.turns:
        return prompt.turns[-1].content.strip() in event.prompt or event.dropped_tokens > 0
    return event.dropped_tokens > 0 or _lines(prompt.text) == _lines(event.prompt)


def _lines(text: str) -> list[str]:
    """What a prompt is, also where each of its lines is one."""
    return [line for line in text.splitlines() if line.strip()]


def _without_place(settings: Configuration) -> dict[str, SettingValue]:
    return {key: value for key, value in settings if key not in (PLACE, PLACEMENT)}
