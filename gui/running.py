"""What is generated: begun from the prompt panel, paused, stepped, joined, ended and cleared."""

from dataclasses import replace

from PySide6.QtCore import QObject, Slot

from engine.protocol import (
    EngineState,
    Failed,
    Family,
    Generate,
    GenerationEnded,
    GenerationStarted,
    LoadCancelled,
    ModelLoaded,
)
from gui.engine_thread import EngineThread
from gui.main_window import MainWindow
from gui.telling import Telling


class Running(QObject):
    """Connects the prompt panel, and the actions that run, to the engine.

    `autorun`: what to generate as soon as the first model is loaded.
    """

    def __init__(
        self, window: MainWindow, engine: EngineThread, telling: Telling, autorun: Generate | None
    ) -> None:
        super().__init__(window)
        self._window, self._engine, self._telling = window, engine, telling
        self._autorun = autorun
        self._clear_when_ended = False
        self._chats = False  # the generation that was started last continues a chat
        self._connect_engine()
        window.prompt.run_requested.connect(self.generate)
        window.prompt.count_requested.connect(engine.count_tokens)
        for name, do in (
            ("run", self.run_or_pause),
            ("step", self.single_step),
            ("stop", engine.stop),
            ("generate", self.generate),
            ("join", self.join),
            ("clear", self.clear),
        ):
            window.actions_.on(name, do)
        self._state_changed(engine.state)

    def _connect_engine(self) -> None:
        engine = self._engine
        engine.state_changed.connect(self._state_changed)
        engine.model_loaded.connect(self._model_loaded)
        engine.load_cancelled.connect(self._load_cancelled)
        engine.failed.connect(self._failed)
        engine.generation_started.connect(self._generation_started)
        engine.generation_ended.connect(self._generation_ended)
        engine.tokens_counted.connect(self._window.prompt.show_count)

    # ------------------------------------------------------------ what the user wants

    def run_or_pause(self) -> None:
        """Run from the prompt, pause, or go on, whichever makes sense now."""
        if self._engine.state is EngineState.RUNNING:
            self._engine.pause()
        elif self._engine.state is EngineState.PAUSED:
            self._engine.resume()
        else:
            self.generate()

    @Slot()
    def generate(self, paused: bool = False) -> None:
        """Start a generation from the prompt panel."""
        self._window.messages.withdraw("generate")
        self._window.navigation.set_follow(True)
        self._start(self._window.prompt.command(paused))

    def single_step(self) -> None:
        """Do one step; the first one of a generation where none is under way."""
        if self._engine.state is EngineState.READY:
            self.generate(True)
        self._engine.single_step()

    def join(self) -> None:
        """Let the prompt of the panel join the generation that runs."""
        self._window.messages.withdraw("join")
        self._engine.join(self._window.prompt.join_command())

    def clear(self) -> None:
        """Drop what was measured, after ending what runs."""
        if self._engine.is_generating:
            self._clear_when_ended = True
            self._engine.stop()
        else:
            self._engine.clear()

    def _start(self, command: Generate) -> None:
        self._chats = bool(command.prompt.turns)
        self._window.prompt.offer_answer("")
        self._engine.generate(command)

    # ------------------------------------------------------------ what the engine says

    @Slot(object)
    def _state_changed(self, state: EngineState | None) -> None:
        window, actions = self._window, self._window.actions_
        runs, generates = state is EngineState.RUNNING, self._engine.is_generating
        ready = state is EngineState.READY or generates
        words = "Pause" if runs else "Run" if self._engine.is_live else "Play"
        actions["run"].setText(words)
        actions["run"].setIconText(words)
        window.show_run_icon(runs)
        for name in ("run", "step", "generate"):
            actions[name].setEnabled(ready)
        window.prompt.run_button.setEnabled(ready)
        actions["stop"].setEnabled(generates)
        actions["join"].setEnabled(generates and self._writes_on())

    def _writes_on(self) -> bool:
        """Whether the model continues prompts, so that another sequence can join."""
        model = self._engine.trace.model
        return model is not None and model.family is Family.DECODER

    @Slot(object)
    def _model_loaded(self, loaded: ModelLoaded) -> None:
        self._window.prompt.suit_model(loaded.model)
        if self._autorun is not None:
            command, self._autorun = self._autorun, None
            own = command.prompt.text or command.prompt.turns
            self._start(command if own else replace(command, prompt=self._window.prompt.prompt))

    @Slot(object)
    def _load_cancelled(self, _: LoadCancelled) -> None:
        self._autorun = None

    @Slot(object)
    def _failed(self, failed: Failed) -> None:
        if failed.command == "load":
            self._autorun = None

    @Slot(object)
    def _generation_started(self, event: GenerationStarted) -> None:
        if event.dropped_tokens:
            self._telling.note(
                f"The prompt was too long: {event.dropped_tokens:,} of its tokens were dropped, as allowed."
            )

    @Slot(object)
    def _generation_ended(self, event: GenerationEnded) -> None:
        if event.reason == "context full":
            self._telling.note("The generation ended since the model's context is full.")
        if self._chats and event.reason != "failed":
            self._offer_answer(event)
        if self._clear_when_ended:
            self._clear_when_ended = False
            self._engine.clear()

    def _offer_answer(self, event: GenerationEnded) -> None:
        """The text that a chat was answered with, without special tokens, can become a turn."""
        trace = self._engine.trace
        for generation in reversed(trace.generations):
            if generation.started.generation == event.generation:
                special = {id for id, _ in trace.model.special_tokens} if trace.model else set()
                rows = trace.token_indices(generation)
                own = (row for row in rows if not trace.tokens.sequence[row])
                texts = (trace.tokens.text[row] for row in own if int(trace.tokens.id[row]) not in special)
                self._window.prompt.offer_answer("".join(texts).strip())
                return
