"""Session: one engine with at most one model and one generation at a time. It takes commands between steps.

The session owns the order of things: which command takes effect before which step, what state the engine is in, and
the events that say so. It runs on one thread, the only one that touches the model. Importing this module is cheap;
torch and transformers are imported when the session runs, so that a front end hears of it.
"""

import gc
import queue
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from time import perf_counter_ns
from typing import TYPE_CHECKING

from engine.collecting import uncollected
from engine.hosts import DeviceLost
from engine.protocol import (
    NEXT_STEP,
    Alternate,
    Calibrate,
    CancelLoad,
    CaptureStep,
    Change,
    Command,
    CountTokens,
    Emit,
    EngineState,
    Event,
    Failed,
    Flush,
    Generate,
    Join,
    ListModels,
    Load,
    LoadCancelled,
    LookUp,
    MeasureSameness,
    Pause,
    ProbeTraining,
    Progress,
    Resume,
    Shutdown,
    SingleStep,
    StateChanged,
    Stop,
    StopAlternating,
)
from engine.runtime.inbox import Inbox
from engine.runtime.lookups import Lookups

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from engine.runtime.run import Run
    from engine.runtime.workbench import Workbench

#: Longer than a window takes to start the generation that it wants as soon as its model is loaded.
IDLE_S = 0.5
#: Longer than people take between two prompts when they try things out.
CALIBRATE_IDLE_S = 2.0


def run_session(
    commands: "queue.SimpleQueue[Command]",
    emit: Emit,
    flush: Flush = lambda: None,
    place: str = "process",
    awaits: Callable[[int], bool] = lambda step: False,
    gather_ns: int = 0,
) -> None:
    """Run an engine until it is told to shut down: commands in, events out, on the calling thread.

    `emit` hears answers to LookUp from other threads. `flush` is called when the engine is about to wait: whoever
    batches events sends them then. `place`: where this
    engine lives, to be reported as a setting. `awaits`: whether a front end on this thread wants to hear all that was
    measured before a step begins, since it has something to say about it. `gather_ns`: how long steps may wait to be
    told together.
    """
    Session(commands, emit, flush, place, awaits, gather_ns).run()


class Session:
    """Takes commands, emits events, runs the model between them."""

    def __init__(
        self,
        commands: "queue.SimpleQueue[Command]",
        emit: Emit,
        flush: Flush,
        place: str,
        awaits: Callable[[int], bool] = lambda step: False,
        gather_ns: int = 0,
    ) -> None:
        self._lookups = Lookups(emit, self._loaded)
        self._inbox = Inbox(commands, self._lookups.ask)
        self._send = emit
        self._flush = flush
        self._place = place
        self._awaits = awaits
        self._gather_ns = gather_ns
        self._state = EngineState.STARTING
        self._workbench: Workbench | None = None
        self._run: Run | None = None
        self._alive = True
        self._lost = ""  # how the device failed for good
        self._held = False  # a command or a pause came between the last step and the next
        self._has_generated = False

    def run(self) -> None:
        """Work until shut down. Raises DeviceLost, with the model still loaded, when the device has failed for good."""
        try:
            self._start()
            self._work()
        except Exception as error:  # between two steps, too, a device can fail
            sentence = self._end_with(error)
            if not sentence:
                raise
            self._fail(sentence, traceback.format_exc())
        self._lookups.close()
        if self._lost:
            with suppress(Exception):  # what is left of a generation may lie on the device
                self._end_run("failed")
            self._flush()
            raise DeviceLost(self._lost)
        self._unload()
        self._flush()

    def _work(self) -> None:
        while self._alive:
            if self._run is not None and self._state is EngineState.RUNNING:
                self._step()
                if self._is_ahead or not self._inbox.has_orders:
                    continue
            command = self._next_command()
            if self._run is not None and self._state is EngineState.RUNNING and not isinstance(command, Join):
                self._held = True  # reading another prompt is work, and everything else is the user's time
            self._take(command)

    def _is_awaited(self) -> bool:
        """Whether something is to be done as soon as the step under way has ended."""
        if self._state is not EngineState.RUNNING or self._inbox.has_orders:
            return True
        return self._workbench is not None and self._awaits(self._workbench.step_index + 1)

    @property
    def _is_ahead(self) -> bool:
        """Whether the last step, when nobody waited, left a token on its way: who came since waits one step more."""
        return self._run is not None and self._run.is_ahead

    def _next_command(self) -> Command:
        """The next command, waited for; an engine that nobody needs for a while tries what it has put off."""
        if self._run is None or self._state is not EngineState.RUNNING:
            self._answer_question()
            self._flush()
        while (wait_s := self._idle_work_in_s()) is not None:
            try:
                return self._inbox.get(timeout=wait_s)
            except queue.Empty:
                self._work_idly()
                self._flush()
        return self._inbox.get()

    def _idle_work_in_s(self) -> float | None:
        """In how many seconds there will be something to do, if nobody needs the engine before; None for nothing.

        This machine is calibrated after a generation only: nobody's first token waits for it.
        """
        if self._workbench is None or self._state is not EngineState.READY:
            return None
        if not self._workbench.is_tried:
            return IDLE_S
        due_s = self._workbench.floors.due_in_s() if self._has_generated else None
        return None if due_s is None else max(CALIBRATE_IDLE_S, due_s)

    def _work_idly(self) -> None:
        assert self._workbench is not None
        if not self._workbench.is_tried:
            self._workbench.try_rest()
            return
        from engine.runtime.calibration import CalibrationInterrupted

        with suppress(CalibrationInterrupted):
            self._workbench.floors.calibrate_idle(lambda: self._inbox.has_orders)
        self._emit(StateChanged(perf_counter_ns(), self._state))  # its progress is over, whatever came of it

    def _start(self) -> None:
        self._emit(StateChanged(perf_counter_ns(), EngineState.STARTING))
        with uncollected():
            for fraction, module in enumerate(("torch", "transformers")):
                self._emit(Progress(perf_counter_ns(), f"importing {module}", fraction / 2))
                self._flush()
                __import__(module)
            from engine.runtime import workbench as workbench
            from engine.runtime.telemetry import describe_engine

            gc.freeze()  # a million objects that live as long as the process: looking at them would take a step's time

        self._emit(describe_engine())
        self._enter(EngineState.EMPTY)

    def _enter(self, state: EngineState) -> None:
        if self._workbench is not None and state is not EngineState.RUNNING:
            self._workbench.settle()
        self._state = state
        self._emit(StateChanged(perf_counter_ns(), state))

    def _emit(self, event: Event) -> None:
        """Say something, behind the steps that were made before."""
        if self._workbench is not None:
            self._workbench.hand_over()
        self._send(event)

    def _fail(self, sentence: str, details: str = "", command: str = "") -> None:
        self._emit(Failed(perf_counter_ns(), sentence, details, command))

    def _take(self, command: Command) -> None:
        match command:
            case Load():
                self._load(command)
            case CancelLoad():
                pass  # it ended the load, where one ran
            case Generate():
                self._generate(command)
            case Join():
                self._join(command)
            case CountTokens():
                self._inbox.ask(command)
            case Pause():
                self._pause()
            case Resume():
                self._resume()
            case SingleStep():
                self._single_step()
            case Stop():
                self._end_run("stopped")
            case Change():
                self._change(command)
            case Alternate():
                self._alternate(command)
            case StopAlternating():
                self._end_alternation()
            case MeasureSameness():
                self._measure_sameness(command)
            case ProbeTraining():
                self._probe_training(command)
            case Calibrate():
                self._calibrate()
            case CaptureStep():
                self._capture_step(command)
            case ListModels():
                self._list_models()
            case LookUp():
                self._lookups.ask(command)
            case Shutdown():
                self._alive = False

    # ------------------------------------------------------------ the model

    def _load(self, command: Load) -> None:
        self._unload()
        self._enter(EngineState.LOADING)
        self._flush()
        with uncollected():
            outcome = self._make_workbench(command)
        if outcome is None:
            self._enter(EngineState.READY)
            return
        gc.collect()  # half a model may have been read; the error that held it is gone by now
        self._emit(outcome)
        self._enter(EngineState.EMPTY)

    def _make_workbench(self, command: Load) -> Failed | LoadCancelled | None:
        """Load; what to say when nothing came of it."""
        from engine.runtime.models.errors import LoadGivenUp, ModelError
        from engine.runtime.workbench import Workbench

        try:
            self._workbench = Workbench(
                command,
                self._place,
                self._send,
                self._flush,
                lambda: self._inbox.gives_up_load,
                self._is_awaited,
                self._gather_ns,
            )
        except LoadGivenUp:
            return LoadCancelled(perf_counter_ns(), command.model)
        except ModelError as error:
            return Failed(perf_counter_ns(), error.sentence, error.details, "load")
        except Exception as error:
            sentence = self._end_with(error) or (
                f"The model '{command.model}' could not be made ready: {first_line(error)}. Choose another."
            )
            return Failed(perf_counter_ns(), sentence, traceback.format_exc(), "load")
        return None

    def _unload(self) -> None:
        self._end_run("stopped")
        if self._workbench is not None:
            self._workbench.close()
            self._workbench = None
            gc.collect()  # the model's cycles hold its weights; give the memory back before the next one

    def _loaded(self) -> "PreTrainedModel | None":
        return self._workbench.live.model if self._workbench is not None else None

    def _list_models(self) -> None:
        from engine.protocol import CatalogueListed
        from engine.runtime.models.catalogue import catalogue
        from engine.runtime.models.fitting import Room
        from engine.runtime.telemetry import devices

        room = Room.now(self._loaded())
        free = dict(room.free)
        here = tuple(replace(facts, available_bytes=free[facts.device]) for facts in devices())
        self._emit(CatalogueListed(perf_counter_ns(), catalogue(room), here))

    def _answer_question(self) -> None:
        """Say how long the prompt is that somebody types; without a model nobody can say."""
        question = self._inbox.question()
        if question is not None and self._workbench is not None:
            self._workbench.count_tokens(question)

    def _change(self, command: Change) -> None:
        if self._workbench is None:
            self._fail("There is no model whose settings could change: load one first.", command="change")
            return
        self._end_alternation()  # a change means what is in force then
        self._workbench.change(command.settings)

    def _alternate(self, command: Alternate) -> None:
        run = self._running("Values take turns between steps: start a generation first.", "alternate")
        if run is None or self._workbench is None:
            return
        from engine.runtime.alternating import Alternation, AlternationRefused

        self._end_alternation()
        with self._refusing(AlternationRefused, "alternate"):
            run.alternation = Alternation(self._workbench, command)

    def _calibrate(self) -> None:
        if self._workbench is None:
            self._fail(
                "What is measured depends on the model's precision: load one first.", command="calibrate"
            )
            return
        if self._run is not None:
            self._fail("A generation would disturb the calibration: stop it first.", command="calibrate")
            return
        from engine.runtime.calibration import CalibrationInterrupted, CalibrationRefused

        try:
            self._workbench.floors.calibrate(lambda: self._inbox.has_orders)
        except CalibrationRefused as refusal:
            self._fail(str(refusal), command="calibrate")
        except CalibrationInterrupted:
            self._fail(
                "The calibration was given up for another command: ask for it again.", command="calibrate"
            )

    def _measure_sameness(self, command: MeasureSameness) -> None:
        run = self._running("Outputs are compared on a text: start a generation first.", "sameness")
        if run is None:
            return
        from engine.runtime.sameness import SamenessRefused

        with self._refusing(SamenessRefused, "sameness", "The outputs could not be compared"):
            run.measure_sameness(command.reference)

    def _probe_training(self, command: ProbeTraining) -> None:
        run = self._running("A training step is made on a text: start a generation first.", "training")
        if run is None:
            return
        from engine.runtime.training_probe import ProbeRefused

        with self._refusing(ProbeRefused, "training", "The training step failed"):
            run.probe_training(command)
        self._held = True  # what it took is in no latency of the generation

    def _capture_step(self, command: CaptureStep) -> None:
        from engine.runtime.profiling import CaptureRefused

        if command.step == NEXT_STEP:
            if self._running("A step is captured in a generation: start one first.", "capture") is not None:
                with self._refusing(CaptureRefused, "capture"):
                    self._step(captures=True)
        elif self._workbench is None:
            self._fail("There is no model whose steps could be captured: load one first.", command="capture")
        else:
            with self._refusing(CaptureRefused, "capture", "The step could not be captured"):
                self._workbench.capture_again(command.step)
        self._held = True  # what it took is in no latency of the generation

    def _running(self, sentence: str, command: str) -> "Run | None":
        """The generation that a command needs; without one, the sentence is told."""
        if self._run is None:
            self._fail(sentence, command=command)
        return self._run

    @contextmanager
    def _refusing(self, refusal: type[Exception], command: str, failed: str = "") -> Iterator[None]:
        """Inside, a refusal becomes its sentence; any other error one that says what `failed`, where that is given."""
        try:
            yield
        except refusal as error:
            self._fail(str(error), command=command)
        except Exception as error:
            if not failed:
                raise
            sentence = self._end_with(error) or f"{failed}: {first_line(error)}."
            self._fail(sentence, traceback.format_exc(), command)

    def _end_alternation(self) -> None:
        if self._run is not None:
            self._run.end_alternation()

    # ------------------------------------------------------------ the generation

    def _generate(self, command: Generate) -> None:
        submitted_ns = perf_counter_ns()
        self._end_run("stopped")
        if self._workbench is None:
            self._fail("There is no model to generate with: load one first.", command="generate")
            return
        from engine.runtime.prompts import PromptRefused
        from engine.runtime.starting import start

        try:
            self._run = start(self._workbench, command, submitted_ns)
        except PromptRefused as refusal:
            self._fail(str(refusal), command="generate")
            return
        except Exception as error:
            self._fail(self._end_with(error) or step_sentence(error), traceback.format_exc(), "generate")
            return
        self._held = False
        self._has_generated = True
        self._enter(EngineState.PAUSED if command.paused else EngineState.RUNNING)

    def _join(self, command: Join) -> None:
        submitted_ns = perf_counter_ns()
        if self._run is None:
            self._fail("A sequence joins others that are written: start a generation first.", command="join")
            return
        from engine.runtime.joining import JoinRefused
        from engine.runtime.prompts import PromptRefused

        try:
            self._run.join(command, submitted_ns)
        except (JoinRefused, PromptRefused) as refusal:
            self._fail(str(refusal), command="join")
        except Exception as error:
            sentence = self._end_with(error) or f"The prompt could not join: {first_line(error)}."
            self._fail(sentence, traceback.format_exc(), "join")

    def _step(self, captures: bool = False) -> None:
        """Do one step. Raises CaptureRefused where it is to be captured and that cannot be, before it is done."""
        assert self._run is not None
        try:
            ended = self._run.capture_next() if captures else self._run.step(self._held)
        except Exception as error:  # whatever a model may raise: what was measured stays, the engine goes on
            if captures and _is_refusal(error):
                raise
            details = traceback.format_exc()
            if self._workbench is not None:
                self._workbench.settle()
            self._fail(self._end_with(error) or step_sentence(error), details, "generate")
            ended = "failed"
        self._held = False
        if ended:
            self._end_run(ended)

    def _end_with(self, error: Exception) -> str:
        """What to say of an error that this process cannot go on after; "" for any other one."""
        from engine.runtime.faults import is_lost, lost_sentence

        if not is_lost(error):
            return ""
        self._alive, self._lost = False, lost_sentence(error)
        kept = "The generation ended and what" if self._run is not None else "What"
        return f"{self._lost} {kept} was measured is kept."

    def _end_run(self, reason: str) -> None:
        if self._run is None:
            return
        if self._lost:
            self._run.alternation = None  # to end it is to switch, which nothing can any more
        self._run.end(reason)
        self._run = None
        self._enter(EngineState.READY)

    def _pause(self) -> None:
        if self._state is EngineState.RUNNING:
            self._enter(EngineState.PAUSED)

    def _resume(self) -> None:
        if self._run is None:
            self._fail("There is no generation to go on with: start one first.", command="resume")
        elif self._state is EngineState.PAUSED:
            self._held = True
            self._enter(EngineState.RUNNING)

    def _single_step(self) -> None:
        if self._run is None:
            self._fail("There is no generation to step through: start one first.", command="step")
            return
        if self._state is EngineState.PAUSED:
            self._held = True
            self._step()
        if self._run is not None and self._state is EngineState.RUNNING:
            self._enter(EngineState.PAUSED)


def _is_refusal(error: Exception) -> bool:
    """Whether a step was not done, since it could not be captured."""
    from engine.runtime.profiling import CaptureRefused

    return isinstance(error, CaptureRefused)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind when it says nothing; without a final full stop."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def step_sentence(error: Exception) -> str:
    """What a failed step says to people."""
    text = first_line(error)
    if (
        isinstance(error, MemoryError)
        or "out of memory" in text.lower()
        or "can't allocate memory" in text.lower()
    ):
        return (
            "Memory ran out in the middle of a step; the generation ended and what was measured is kept."
            " Use a shorter context, a smaller precision or a smaller model."
        )
    return (
        f"The step failed ({text}); the generation ended and what was measured is kept."
        " Change the setting and run again."
    )
