"""Who tells whom: engine events to panels, wishes of the user to the engine, and the one timer that draws."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns

from PySide6.QtCore import QObject, Qt, QTimer, Slot
from PySide6.QtWidgets import QFileDialog

from engine.protocol import (
    Calibrated,
    CatalogueListed,
    Configuration,
    EngineEnded,
    EngineState,
    Failed,
    Family,
    FloorBeaten,
    Generate,
    GenerationEnded,
    GenerationStarted,
    LoadCancelled,
    LookedUp,
    ModelLoaded,
    Noticed,
    Progress,
    SettingsChanged,
)
from engine.telemetry.process import Telemetry
from engine.trace.chrome_trace import write_chrome_trace
from engine.trace.export import ExportRefused
from engine.trace.phases import Role
from engine.trace.recording.shelf import Shelf
from gui.engine_thread import EngineThread
from gui.floor_texts import beaten_sentence, doubts, measured_sentence
from gui.frame_meter import FrameMeter
from gui.instrument_trial import InstrumentTrial, Stage
from gui.main_window import MainWindow
from gui.notes import Notes
from gui.options import free_path
from gui.panels.message_bar import Kind
from gui.panels.model_picker import ModelPicker
from gui.panels.model_rows import as_remembered
from gui.panels.progress_strip import DOWNLOAD, prefill_progress
from gui.pinning import Pinning
from gui.recording import Recording, shelf_of_user
from gui.session_keeper import SessionKeeper
from gui.sessions import Sessions
from gui.settings_store import SettingsStore
from gui.sharing import Sharing
from gui.shortcuts import ShortcutSheet
from gui.surroundings import Surroundings
from gui.view_state import is_preparation

FRAME_MS = 33
NUMBERS_EVERY_NS = 250_000_000  # text that changes faster cannot be read
BUSY = (EngineState.RUNNING, EngineState.PAUSED)


class Conductor(QObject):
    """Connects an engine to a window. `autorun`: what to generate as soon as the first model is loaded."""

    def __init__(
        self,
        window: MainWindow,
        engine: EngineThread,
        store: SettingsStore,
        autorun: Generate | None = None,
        telemetry: Telemetry | None = None,
        recording: Recording | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        """`telemetry`: where samples of the machine come from; None: nothing is sampled.

        `recording`: writes sessions down; None: nobody does. `shelf`: where sessions lie then.
        """
        super().__init__(window)
        window.make_rest()
        self.window = window
        self.engine = engine
        self._store = store
        self._autorun = autorun
        self._clear_when_ended = False
        self._chats = False  # the generation that was started last continues a chat
        self._picker: ModelPicker | None = None
        self._working = False  # long work of the engine is under way (start, load)
        self._shows_work = False  # the strip shows work between two steps
        self._stage = ""  # the stage that the last load came to
        self._next_numbers_ns = 0
        self.meter = FrameMeter()
        self.sharing = Sharing(window, engine)
        self.pinning = Pinning(window, engine)
        self._trial: InstrumentTrial | None = None
        window.telemetry.set_sampled(telemetry is not None)
        self._surroundings = Surroundings(engine, window.messages, telemetry, self._is_looked_at, self)
        self._surroundings.ended.connect(self._sensors_ended)
        self._recording = recording
        self._keeper = SessionKeeper(
            recording.shelf if recording is not None else shelf or shelf_of_user(),
            lambda: engine.recorder,
            window,
        )
        self._notes = Notes(window, engine, self._keeper)
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(FRAME_MS)
        self._timer.timeout.connect(self.frame)
        self._connect_engine()
        self._connect_panels()
        self._connect_actions()
        self._connect_recording()
        self._state_changed(engine.state)

    def start(self) -> None:
        """Begin to draw."""
        self._timer.start()

    def stop(self) -> None:
        """Draw no more, and write no more."""
        self._timer.stop()
        self.sharing.stop()
        self._keeper.stop()
        self.pinning.stop()

    # ------------------------------------------------------------ frames

    @Slot()
    def frame(self) -> None:
        """Take events, then bring up to date what they changed; nothing while a trial wants the window still."""
        if self._trial is not None and self._trial.frame(perf_counter_ns()):
            return
        self.engine.drain()
        self._surroundings.frame()
        trace, navigation = self.engine.trace, self.window.navigation
        if navigation.count != len(trace.steps):
            navigation.trace_grew(len(trace.steps))
        drew = [chart.refresh() for chart in self.window.charts]
        drew.append(self.window.text.refresh())
        now_ns = perf_counter_ns()
        if now_ns >= self._next_numbers_ns:
            self._next_numbers_ns = now_ns + NUMBERS_EVERY_NS
            drew.append(self.show_numbers())
        self.meter.frame(any(drew))

    def show_numbers(self) -> bool:
        """Bring the numbers up to date; whether the measurements changed."""
        window, engine = self.window, self.engine
        window.kernels.refresh()
        changed = window.measurements.refresh()
        if changed:
            window.switchboard.refresh_effects()
        changed |= window.roofline.refresh() | window.cycle_model.refresh()
        window.roofline.show_measuring(engine.is_calibrating)
        cost = self.meter.cost()
        if self._recording is not None:
            self._recording.look()
        window.meter.show_costs(engine.trace, engine.last_observer, cost, self._trial_progress())
        window.meter.show_warnings(self._surroundings.look(cost))
        window.meter.show_engine(engine.trace, engine.place, engine.state)
        self._show_work()
        return changed

    @Slot()
    def _sensors_ended(self) -> None:
        self.window.telemetry.set_sampled(False)

    def _is_looked_at(self) -> bool:
        """Whether the window can be seen: on screen, and not folded away."""
        return self.window.isVisible() and not self.window.isMinimized()

    def _trial_progress(self) -> str:
        if self._trial is not None and self._trial.stage is Stage.OVER:
            self._trial = None
        return self._trial.progress if self._trial is not None else ""

    def _show_work(self) -> None:
        """What takes long between two steps shows how far it is, and so does a long prompt."""
        if self._working:
            return
        now_ns = perf_counter_ns()
        work = self.engine.work(now_ns)
        self._shows_work = work is not None
        if work is not None:
            self.window.progress.show_load(work, can_cancel=bool(work.stage))
            return
        found = prefill_progress(self.engine.trace, now_ns)
        if found and self.engine.state in BUSY:
            self.window.progress.show_progress(*found)
        else:
            self.window.progress.hide()

    # ------------------------------------------------------------ what the engine says

    def _connect_engine(self) -> None:
        engine = self.engine
        engine.state_changed.connect(self._state_changed)
        engine.trace_replaced.connect(self.window.set_trace)
        engine.model_loaded.connect(self._model_loaded)
        engine.load_cancelled.connect(self._load_cancelled)
        engine.progress.connect(self._progressed)
        engine.failed.connect(self._failed)
        engine.settings_changed.connect(self._settings_changed)
        engine.settings_probed.connect(self._settings_probed)
        engine.generation_started.connect(self._generation_started)
        engine.generation_ended.connect(self._generation_ended)
        engine.engine_ended.connect(self._engine_ended)
        engine.calibrated.connect(self._calibrated)
        engine.floor_beaten.connect(self._floor_beaten)
        engine.catalogue.connect(self._catalogue)
        engine.looked_up.connect(self._looked_up)
        engine.noted.connect(self._noted)
        engine.noticed.connect(self._noticed)
        engine.kernels_captured.connect(self._kernels_captured)
        engine.tokens_counted.connect(self.window.prompt.show_count)

    @Slot(object)
    def _state_changed(self, state: EngineState | None) -> None:
        window, actions = self.window, self.window.actions_
        window.heading.show_state(state)
        self._working = state in (EngineState.STARTING, EngineState.LOADING)
        if not self._working:
            window.progress.hide()
        else:
            self._begin_progress(state)
        ready = state is EngineState.READY or state in BUSY
        actions["run"].setEnabled(ready)
        run = "Run" if self.engine.is_live else "Play"
        actions["run"].setText("Pause" if state is EngineState.RUNNING else run)
        actions["run"].setIconText("Pause" if state is EngineState.RUNNING else run)
        window.show_run_icon(state is EngineState.RUNNING)
        actions["step"].setEnabled(ready)
        actions["generate"].setEnabled(ready)
        window.prompt.run_button.setEnabled(ready)
        actions["stop"].setEnabled(state in BUSY)
        actions["capture"].setEnabled(ready)
        actions["join"].setEnabled(state in BUSY and self._writes_on())
        if not ready:
            window.model.show_hint(self._why_not_ready(state))

    def _writes_on(self) -> bool:
        """Whether the model continues prompts, so that another sequence can join."""
        model = self.engine.trace.model
        return model is not None and model.family is Family.DECODER

    def _begin_progress(self, state: EngineState | None) -> None:
        """The engine starts, or begins to load: nothing more is known yet."""
        engine = self.engine
        if engine.is_cancelling:
            activity = f"giving up {engine.wanted_model}"
        elif state is EngineState.STARTING:
            activity, self._stage = "starting the engine", ""
        else:
            activity, self._stage = f"loading {engine.wanted_model}", ""
        self.window.progress.show_progress(activity, None, engine.is_loading and not engine.is_cancelling)

    def _why_not_ready(self, state: EngineState | None) -> str:
        wanted = self.engine.wanted_model
        if self._working or self.engine.is_loading:
            return f"{wanted} is being loaded." if wanted else "The engine is starting."
        return "Choose a model to begin." if state else "The engine is not running."

    @Slot(object)
    def _model_loaded(self, loaded: ModelLoaded) -> None:
        window, model = self.window, loaded.model
        window.prompt.suit_model(model)
        self._generate_first()  # what there is to switch is shown meanwhile: that takes as long as the first token
        window.model.show_model(model)
        window.heading.show_model(model)
        window.switchboard.show_settings(loaded)
        self.show_precision(loaded.effective)
        window.messages.withdraw("load")
        window.messages.withdraw("engine")
        window.setWindowTitle(f"{model.name} – Cyclograph")
        self._store.remember_model(as_remembered(self.engine.wanted_model))

    def _generate_first(self) -> None:
        if self._autorun is not None:
            command, self._autorun = self._autorun, None
            own = command.prompt.text or command.prompt.turns
            self._start(command if own else replace(command, prompt=self.window.prompt.prompt))

    @Slot(object)
    def _progressed(self, progress: Progress) -> None:
        if not self._working:
            return
        self._stage = progress.stage or self._stage
        if not self.engine.is_cancelling:
            self.window.progress.show_load(progress, self.engine.is_loading)

    @Slot(object)
    def _load_cancelled(self, event: LoadCancelled) -> None:
        self._autorun = None
        if self._stage == DOWNLOAD:
            sentence = (
                f"The download of {event.model} was given up; what has come is kept, to go on from there."
            )
        else:
            sentence = f"Loading {event.model} was given up and its memory freed; choose a model to go on."
        self.window.messages.show_message(Kind.INFO, sentence, action=self._again(), about="load")

    def _again(self) -> tuple[str, Callable[[], None]]:
        """The button of a message about a load that came to nothing."""
        return "Resume" if self._stage == DOWNLOAD else "Load again", self._load_again

    def _load_again(self) -> None:
        self.window.messages.withdraw("load")
        self.engine.load_again()

    @Slot(object)
    def _failed(self, failed: Failed) -> None:
        if failed.command == "alternate" and self._trial is not None:
            self._trial.refused(perf_counter_ns())
        about = failed.command or "failed"
        again = self._again() if failed.command == "load" and self._stage == DOWNLOAD else None
        if failed.command == "capture" and self.engine.state in BUSY:
            again = ("Capture the next step", self.engine.capture_step)
        self.window.messages.show_message(Kind.ERROR, failed.sentence, failed.details, again, about=about)
        if failed.command == "load":
            self._autorun = None

    @Slot(object)
    def _settings_changed(self, event: SettingsChanged) -> None:
        self.window.switchboard.show_change(event)
        self.show_precision(event.effective)
        if event.cause:
            told = ", ".join(f"{change.key} is {change.effective} now" for change in event.changes)
            self._noted(f"{told}, since {event.cause}. Choose a level yourself to keep it.")
        for change in event.changes:
            if change.reason:
                asked = f"{change.key} = {change.requested} was asked for, {change.effective} is in force"
                self.window.messages.show_message(
                    Kind.WARNING, f"{asked}: {change.reason}", about=f"setting {change.key}"
                )

    def show_precision(self, effective: Configuration) -> None:
        """Show in which precision the model runs under these settings."""
        model = self.engine.trace.model
        if model is not None:
            precision = dict(effective).get("precision", model.dtype)
            self.window.heading.show_precision(model, str(precision))

    @Slot(object)
    def _settings_probed(self, loaded: ModelLoaded) -> None:
        self.window.switchboard.show_settings(loaded)
        self.window.switchboard.show_configuration(self.engine.trace.configuration)

    @Slot(object)
    def _generation_started(self, event: GenerationStarted) -> None:
        if event.dropped_tokens:
            self._noted(
                f"The prompt was too long: {event.dropped_tokens:,} of its tokens were dropped, as allowed."
            )

    @Slot(object)
    def _generation_ended(self, event: GenerationEnded) -> None:
        if event.reason == "context full":
            self._noted("The generation ended since the model's context is full.")
        if self._chats and event.reason != "failed":
            self._offer_answer(event)
        if self._clear_when_ended:
            self._clear_when_ended = False
            self.engine.clear()

    def _offer_answer(self, event: GenerationEnded) -> None:
        """The text that a chat was answered with, without special tokens, can become a turn."""
        trace = self.engine.trace
        for generation in reversed(trace.generations):
            if generation.started.generation == event.generation:
                special = {id for id, _ in trace.model.special_tokens} if trace.model else set()
                rows = trace.token_indices(generation)
                own = (row for row in rows if not trace.tokens.sequence[row])
                texts = (trace.tokens.text[row] for row in own if int(trace.tokens.id[row]) not in special)
                self.window.prompt.offer_answer("".join(texts).strip())
                return

    @Slot(str)
    def _prompt_failed(self, sentence: str) -> None:
        self.window.messages.show_message(Kind.ERROR, sentence, about="prompt")

    @Slot(int)
    def _kernels_captured(self, row: int) -> None:
        self.window.messages.withdraw("capture")
        self.window.navigation.trace_grew(len(self.engine.trace.steps))
        self.window.navigation.select(row)
        self.window.show_capture()
        self.window.kernels.refresh()

    @Slot(object)
    def _engine_ended(self, event: EngineEnded) -> None:
        again = ("Restart engine", self.engine.restart)
        self.window.messages.show_message(Kind.ERROR, event.sentence, event.report, again, about="engine")

    @Slot(object)
    def _calibrated(self, event: Calibrated) -> None:
        """A first measurement that nobody asked for is only shown where calibrations are."""
        messages = self.window.messages
        messages.withdraw("calibrate")
        if event.origin == "measured":
            messages.withdraw("floor")
            if not event.reason or self.engine.trace.beaten_floors:
                kind = Kind.WARNING if doubts(event.calibration) else Kind.INFO
                messages.show_message(kind, measured_sentence(event), about="calibrate")

    @Slot(object)
    def _floor_beaten(self, event: FloorBeaten) -> None:
        action = ("Measure again", self.calibrate)
        told = beaten_sentence(event, event.step - self.engine.trace.first_index)
        self.window.messages.show_message(Kind.WARNING, told, action=action, about="floor")

    @Slot(object)
    def _catalogue(self, listed: CatalogueListed) -> None:
        if self._picker is not None:
            self._picker.show_catalogue(listed)

    @Slot(object)
    def _looked_up(self, answer: LookedUp) -> None:
        if self._picker is not None:
            self._picker.show_answer(answer)

    @Slot(object)
    def _noticed(self, notice: Noticed) -> None:
        self.window.messages.show_message(Kind.INFO, notice.sentence, about=notice.about)

    @Slot(str)
    def _noted(self, sentence: str) -> None:
        self.window.messages.show_message(Kind.INFO, sentence, about="note")

    @Slot(str, str)
    def show_fault(self, sentence: str, details: str) -> None:
        """Something failed that nobody foresaw."""
        self.window.messages.show_message(Kind.ERROR, sentence, details)

    # ------------------------------------------------------------ what the user wants

    def _connect_panels(self) -> None:
        window = self.window
        window.model.pick_requested.connect(self.pick_model)
        window.prompt.run_requested.connect(self.generate)
        window.prompt.count_requested.connect(self.engine.count_tokens)
        window.prompt.failed.connect(self._prompt_failed)
        window.switchboard.change_requested.connect(self.engine.change)
        window.switchboard.alternation_requested.connect(self.engine.alternate)
        window.switchboard.alternation_stopped.connect(self.engine.stop_alternating)
        window.switchboard.training_requested.connect(self.engine.probe_training)
        window.switchboard.sameness_requested.connect(self.engine.measure_sameness)
        window.progress.cancelled.connect(self._cancel)
        window.kernels.export_requested.connect(self.save_capture)
        window.roofline.calibrate_requested.connect(self.calibrate)
        window.navigation.follow_changed.connect(window.actions_["follow"].setChecked)
        window.actions_["follow"].setChecked(window.navigation.follow)

    def _connect_actions(self) -> None:
        navigation = self.window.navigation
        does: dict[str, Callable[[], object]] = {
            "run": self.run_or_pause,
            "step": self.single_step,
            "stop": self.engine.stop,
            "generate": self.generate,
            "join": self.join,
            "capture": self.capture,
            "save_capture": self.save_capture,
            "clear": self.clear,
            "zoom_in": lambda: navigation.zoom(1 / 1.5, _middle(navigation.first, navigation.last)),
            "zoom_out": lambda: navigation.zoom(1.5, _middle(navigation.first, navigation.last)),
            "pan_left": lambda: navigation.pan(-navigation.span / 8),
            "pan_right": lambda: navigation.pan(navigation.span / 8),
            "show_all": navigation.show_all,
            "previous": lambda: navigation.select_next(-1),
            "next": lambda: navigation.select_next(1),
            "slowest": self.select_slowest,
            "note": self._notes.write,
            "deselect": self.deselect,
            "role": lambda: navigation.set_role(Role((navigation.role + 1) % len(Role))),
            "axis": self._switch_axis,
            "calibrate": self.calibrate,
            "roofline": lambda: self.window.show_dock("roofline"),
            "cycle_model": lambda: self.window.show_dock("cycle_model"),
            "alternate": lambda: self._about_last_change(self.window.switchboard.alternate),
            "instrument": self.measure_instrument,
            "compare": lambda: self._about_last_change(self.window.switchboard.compare),
            "pick": self.pick_model,
            "prompt": self.window.prompt.focus_text,
            "find": self.window.find_setting,
            "export": self.sharing.export,
            "command": self.sharing.copy_command,
            "picture": self.save_picture,
            "restart": self.engine.restart,
            "shortcuts": self.show_shortcuts,
        }
        self._does = does
        for name in does:
            self.window.actions_[name].triggered.connect(self._act)
        self.window.actions_["follow"].triggered.connect(navigation.set_follow)

    def _connect_recording(self) -> None:
        action, recording = self.window.actions_["record"], self._recording
        sessions = self.window.actions_["sessions"]
        action.setEnabled(recording is not None)
        sessions.setEnabled(recording is not None)
        if recording is not None:
            self.sessions = Sessions(self.window, recording, self._keeper, self._store)
            sessions.triggered.connect(self.sessions.show)
            action.setChecked(recording.is_on)
            action.triggered.connect(recording.set_on)

    @Slot()
    def _act(self) -> None:
        sender = self.sender()
        if sender is not None:
            self._does[sender.objectName()]()

    def run_or_pause(self) -> None:
        """Run from the prompt, pause, or go on, whichever makes sense now."""
        if self.engine.state is EngineState.RUNNING:
            self.engine.pause()
        elif self.engine.state is EngineState.PAUSED:
            self.engine.resume()
        else:
            self.generate()

    def generate(self, paused: bool = False) -> None:
        """Start a generation from the prompt panel."""
        self.window.messages.withdraw("generate")
        self.window.navigation.set_follow(True)
        self._start(self.window.prompt.command(paused))

    def join(self) -> None:
        """Let the prompt of the panel join the generation that runs."""
        self.window.messages.withdraw("join")
        self.engine.join(self.window.prompt.join_command())

    def _start(self, command: Generate) -> None:
        self._chats = bool(command.prompt.turns)
        self.window.prompt.offer_answer("")
        self.engine.generate(command)

    def single_step(self) -> None:
        """Do one step; the first one of a generation where none is under way."""
        if self.engine.state is EngineState.READY:
            self.generate(True)
        self.engine.single_step()

    def capture(self) -> None:
        """Look into the selected step again; without one into the next, or into the newest once all is over."""
        engine, selected = self.engine, self.window.navigation.selected
        self.window.messages.withdraw("capture")
        if selected is None and engine.state is EngineState.READY:
            if not len(engine.trace.steps):
                self.generate(True)
            else:
                selected = self.window.navigation.shown_step
        engine.capture_step(selected)

    def save_capture(self) -> None:
        """Write the capture of the step that is shown where the user says; a file that is there only if he says so."""
        row = self.window.kernels.row
        capture = self.engine.trace.capture(row) if row is not None else None
        if capture is None:
            self._noted(
                "There is nothing to save: the step that is shown was not captured. Press K to do so."
            )
            return
        suggested = str(free_path(Path.cwd() / f"step-{row}.trace.json"))
        name, _ = QFileDialog.getSaveFileName(
            self.window, "Save the capture", suggested, "Chrome traces (*.json)"
        )
        if not name:
            return
        try:
            write_chrome_trace(capture, Path(name), replace=True)  # the dialog has asked
        except ExportRefused as refusal:
            self.window.messages.show_message(Kind.ERROR, str(refusal), about="save capture")
            return
        where = f"The capture is in {name}; open it with ui.perfetto.dev or chrome://tracing."
        self.window.messages.show_message(Kind.INFO, where, about="save capture")

    def measure_instrument(self) -> None:
        """Find out what marks and drawing cost, in turns; pressed again, stop that."""
        if self._trial is not None:
            self._trial.stop()
            self._trial = None
        elif self.engine.state is EngineState.RUNNING or self.engine.state is EngineState.READY:
            self._trial = InstrumentTrial(self.engine, self.generate, self._noted, perf_counter_ns())
        else:
            self._noted("The instrument is measured while steps are made: load a model, or go on, first.")

    def clear(self) -> None:
        """Drop what was measured, after ending what runs."""
        if self.engine.state in BUSY:
            self._clear_when_ended = True
            self.engine.stop()
        else:
            self.engine.clear()

    def select_slowest(self) -> None:
        """Select the slowest decode step on screen."""
        navigation, steps = self.window.navigation, self.engine.trace.steps
        first, last = max(0, int(navigation.first)), min(len(steps), int(navigation.last))
        others = is_preparation(self.engine.trace, steps.kind[first:last]) | steps.captured[first:last]
        walls = steps.wall_ns[first:last] * ~others
        if len(walls):
            navigation.select(first + int(walls.argmax()))

    def deselect(self) -> None:
        """Let go of the selected step, or dismiss the latest message."""
        if self.window.navigation.selected is not None:
            self.window.navigation.select(None)
        else:
            self.window.messages.dismiss_latest()

    @Slot()
    def calibrate(self) -> None:
        """Measure what this machine achieves."""
        self.window.messages.withdraw("calibrate")
        self.engine.calibrate()
        self.window.roofline.show_measuring(self.engine.is_calibrating)

    def _about_last_change(self, do: Callable[[str], None]) -> None:
        """Try something about the setting that was changed last."""
        key = self.window.switchboard.last_changed()
        if key is None:
            self._noted("There is nothing to compare yet: change a setting first.")
        else:
            do(key)

    def _switch_axis(self) -> None:
        axes = list(type(self.window.navigation.latency_axis))
        now = axes.index(self.window.navigation.latency_axis)
        self.window.navigation.set_latency_axis(axes[(now + 1) % len(axes)])

    def pick_model(self) -> None:
        """Open the model picker."""
        if self._picker is not None:
            return
        devices = self.engine.started.devices if self.engine.started else ()
        picker = ModelPicker(devices, self._store.recent_models, self.window.theme, self.window)
        picker.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        picker.chosen.connect(self._load)
        picker.look_up_requested.connect(self.engine.look_up)
        picker.finished.connect(self._picker_gone)
        self.window.theme_changed.connect(picker.set_theme)
        self._picker = picker
        if self.engine.listed is not None:
            picker.show_catalogue(self.engine.listed)
        if self.engine.state is not None:
            self.engine.list_models()
        picker.open()

    @Slot()
    def _picker_gone(self) -> None:
        self._picker = None

    @Slot(str, str)
    def _load(self, model: str, device: str) -> None:
        self.window.messages.withdraw("load")
        self.engine.load(model, device)

    @Slot()
    def _cancel(self) -> None:
        if self._working:
            self.engine.cancel_load()
            if self._working:  # the engine has not let go of it yet
                self._begin_progress(self.engine.state)
        elif self._shows_work:  # it may be over by now: what runs is not to be stopped instead
            self.engine.give_up_switch()
        else:
            self.engine.stop()

    def save_picture(self) -> None:
        """Save a picture of the window in the working directory, under a name that is free."""
        path = free_path(Path.cwd() / "cyclograph.png")
        saved = self.window.grab().save(str(path))
        where = f"A picture is in {path}." if saved else f"The picture could not be saved in {os.getcwd()}."
        self.window.messages.show_message(Kind.INFO if saved else Kind.ERROR, where, about="picture")

    def show_shortcuts(self) -> None:
        """Open the sheet of keys."""
        sheet = ShortcutSheet(self.window.actions_, self.window)
        sheet.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        sheet.open()


def _middle(first: float, last: float) -> float:
    return (first + last) / 2
