"""The commands of `python -m engine`: what they take, and what they do with an engine in this process.

A run is the same session as under a window: commands go in, events come out, a trace is folded from them, and all
that is printed is read off that trace.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from typing import Generic, TypeVar

from engine import __version__
from engine.bad_input import BAD_INPUT, INTERRUPTED, BadInput
from engine.comparing import add_compare
from engine.exporting import add_export
from engine.front import Front
from engine.prefill_walk import PrefillWalk
from engine.prompt_files import prompt_text
from engine.protocol import (
    DEVICE_LOST,
    Alternate,
    Calibrate,
    Calibrated,
    CaptureStep,
    CatalogueListed,
    Change,
    Command,
    Configuration,
    EngineStarted,
    EngineState,
    Event,
    Failed,
    Generate,
    Join,
    KernelsCaptured,
    ListModels,
    Load,
    ModelLoaded,
    ProbeTraining,
    Prompt,
    RecordingReport,
    Resume,
    SettingsChanged,
    SettingsProbed,
    Shutdown,
    StateChanged,
    StepEnded,
    Turn,
)
from engine.recording_commands import add_record, add_replay, recorded
from engine.report import (
    JsonReport,
    Report,
    TextReport,
    print_catalogue,
    print_prefill_walk,
    print_settings,
    print_walk,
)
from engine.session_commands import add_sessions
from engine.telemetry.process import TelemetryProcess
from engine.telemetry.sensors import EVERY_S
from engine.trace.chrome_trace import write_chrome_trace
from engine.trace.export import ExportRefused
from engine.trace.phases import Detail
from engine.walk import SHORTEST, Walk

Answer = TypeVar("Answer")

RECORDING_EVERY_NS = 2_000_000_000  # between two reports of what writing down costs
DEFAULT_HZ, SLOWEST_HZ, FASTEST_HZ = 1 / EVERY_S, 0.1, 10.0  # of reading sensors


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 2 for bad input (after one sentence), 130 after Ctrl-C, 86 where the
    device failed for good.
    """
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (BadInput, ExportRefused) as problem:
        if getattr(options, "json", False):
            JsonReport(sys.stdout).problem(str(problem))
        print(problem, file=sys.stderr)
        return problem.code if isinstance(problem, BadInput) else BAD_INPUT
    except BrokenPipeError:  # whoever read our output has enough
        sys.stderr.close()
        return 0


def parser() -> argparse.ArgumentParser:
    """The command line, as `--help` shows it."""
    top = argparse.ArgumentParser(prog="python -m engine", description="Cyclograph without a window.")
    top.add_argument("--version", action="version", version=f"cyclograph {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="generate, and measure every step"))
    models = commands.add_parser("models", help="list built-in and cached models")
    models.add_argument("--json", action="store_true", help="one JSON object a line")
    models.set_defaults(run=list_models)
    settings = commands.add_parser(
        "settings", help="list what can be switched for a model here, with reasons"
    )
    _add_model(settings)
    settings.add_argument("--json", action="store_true", help="one JSON object a line")
    settings.set_defaults(run=list_settings)
    _add_walk(
        commands.add_parser("walk", help="try every setting that is possible here, and say what each did")
    )
    add_export(
        commands.add_parser("export", help="write a recorded session as a table, a trace, a text or a report")
    )
    add_compare(
        commands.add_parser("compare", help="set one recorded session against another, metric by metric")
    )
    add_replay(commands.add_parser("replay", help="say again what a recorded session said"))
    add_sessions(commands.add_parser("sessions", help="list the recorded sessions"))
    return top


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="demo", help="demo, preset, local directory or hub id (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0, mps, … (default: %(default)s)")


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument(
        "--prompt", required=True, help="text to continue, or @FILE (UTF-8), or @- to read it"
    )
    parser.add_argument(
        "--chat", action="store_true", help="the prompt is a user's turn, for the model's chat template"
    )
    parser.add_argument("--system", metavar="TEXT", help="what the system says before it (with --chat)")
    parser.add_argument(
        "--turn",
        action="append",
        default=[],
        metavar="ROLE:TEXT",
        help="a turn of user or assistant between the system's and the prompt, in order (with --chat)",
    )
    parser.add_argument(
        "--thinking", choices=("on", "off"), help="whether the model thinks first, where it can (with --chat)"
    )
    parser.add_argument(
        "--truncate", action="store_true", help="drop the beginning of a prompt that is too long"
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=1,
        metavar="N",
        help="inputs a step, of a model that only reads (one a line)",
    )
    parser.add_argument(
        "--lines", action="store_true", help="each line of the prompt is a prompt of its own, all at once"
    )
    parser.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="default: %(default)s")
    parser.add_argument("--ignore-end-token", action="store_true", help="go on after the model's end token")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting from the start"
    )
    parser.add_argument(
        "--at",
        action="append",
        default=[],
        metavar="STEP:KEY=VALUE",
        help="a setting from step STEP on (0 is the first)",
    )
    parser.add_argument(
        "--join",
        action="append",
        default=[],
        metavar="STEP:TEXT",
        help="a prompt (or @FILE) whose sequence joins the others before step STEP",
    )
    parser.add_argument(
        "--training-step",
        type=int,
        metavar="STEP",
        help="make a training step before step STEP, and throw its gradients away",
    )
    parser.add_argument("--mixed", action="store_true", help="the training step in mixed precision")
    parser.add_argument(
        "--accumulate", type=int, default=1, metavar="N", help="pieces of the training step (default: 1)"
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="first measure what this machine achieves (2 s), for the floor of each step; else as remembered",
    )
    parser.add_argument(
        "--capture",
        type=int,
        metavar="STEP",
        help="run step STEP under torch's profiler: operations and kernels",
    )
    parser.add_argument(
        "--capture-to", type=Path, metavar="FILE", help="write that as a Chrome trace (JSON), to a new file"
    )
    parser.add_argument(
        "--detail",
        choices=("step", "phase", "layer", "core", "auto"),
        help="how deep to measure; auto: as deep as costs under 1 %% of a step (default: layer, if there are any)",
    )
    parser.add_argument(
        "--measure-instrument",
        action="store_true",
        help="let the detail take turns with none from the first token on, and say what it costs (128 tokens or more)",
    )
    parser.add_argument(
        "--sensors",
        type=float,
        default=DEFAULT_HZ,
        metavar="HZ",
        help="how often a process of its own reads the sensors of the machine; 0: never (default: %(default)g)",
    )
    add_record(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line, a summary last")
    parser.set_defaults(run=run)


def _add_walk(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--prompt", default="def ", help="text to continue, or @FILE (default: %(default)r)")
    parser.add_argument(
        "--tokens", type=int, default=64, metavar="N", help="tokens of each stretch (default: %(default)s)"
    )
    parser.add_argument(
        "--prefill",
        type=int,
        default=400,
        metavar="N",
        help="afterwards the same for prefill, of at least N characters of the prompt repeated; 0: not"
        " (default: %(default)s)",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="in force throughout")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=walk)


# ---------------------------------------------------------------- run


def run(options: argparse.Namespace) -> int:
    """Generate once and report every step."""
    settings = parse_settings(options.set)
    if options.detail and options.detail != "auto":
        settings = (*settings, ("detail", options.detail))
    elif "auto_detail" not in dict(settings):  # every run of a script sees the same, unless it says otherwise
        settings = (*settings, ("auto_detail", "on" if options.detail == "auto" else "off"))
    script = parse_script(options.at)
    prompt = make_prompt(options, options.prompt)
    joins = parse_joins(options)
    report: Report = JsonReport(sys.stdout) if options.json else TextReport(sys.stdout, sys.stderr)
    probes = {}
    if options.training_step is not None:
        probes[options.training_step] = ProbeTraining(options.mixed, options.accumulate)
    check_capture(options)
    if not (options.sensors == 0 or SLOWEST_HZ <= options.sensors <= FASTEST_HZ):
        raise BadInput(
            f"Sensors can be read {SLOWEST_HZ:g} to {FASTEST_HZ:g} times a second, or never (0),"
            f" not {options.sensors:g}."
        )
    telemetry = TelemetryProcess(1 / options.sensors) if options.sensors else None
    front = Running(
        report,
        script,
        probes,
        joins,
        options.calibrate,
        options.capture,
        options.capture_to,
        telemetry,
        options.measure_instrument,
    )
    load, generate = Load(options.model, options.device, settings), generate_of(options, prompt)
    if options.record is None:
        return front.run(load, generate)
    with recorded(front, options.record.expanduser(), options.force):
        return front.run(load, generate)


def generate_of(options: argparse.Namespace, prompt: Prompt) -> Generate:
    """The generation that the options ask for."""
    ends = not options.ignore_end_token
    return Generate(prompt, options.max_new_tokens, ends, batch=options.batch, lines=options.lines)


class Running(Front):
    """One generation: changes come before their steps, and everything is reported as it comes."""

    def __init__(
        self,
        report: Report,
        script: dict[int, Configuration],
        probes: dict[int, ProbeTraining] | None = None,
        joins: dict[int, tuple[Join, ...]] | None = None,
        calibrate: bool = False,
        capture: int | None = None,
        capture_to: Path | None = None,
        telemetry: TelemetryProcess | None = None,
        measures_instrument: bool = False,
    ) -> None:
        """`capture`: the step that is captured in depth; `capture_to`: the file in which that is written.

        `telemetry`: reads the sensors, not started. `measures_instrument`: let the detail take turns with none.
        """
        super().__init__()
        self._telemetry = telemetry
        self._measures_instrument = measures_instrument
        self._report = report
        self._script = dict(script)
        self._probes = dict(probes or {})
        self._joins = dict(joins or {})
        self._calibrate = calibrate
        self._capture, self._capture_to = capture, capture_to
        self._generate: Generate | None = None
        self._next_report_ns = perf_counter_ns() + RECORDING_EVERY_NS

    def run(self, load: Load, generate: Generate) -> int:
        """Load, generate, report; returns the exit code."""
        self._generate = generate
        interrupted = False
        if self._telemetry is not None:
            self._telemetry.start()
        try:
            self.converse(load)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            if self._telemetry is not None:
                self._telemetry.stop()
        if len(self.trace.steps) and not self.problem:
            for step, settings in sorted(self._script.items()):
                self._report.problem(f"The settings {settings} for step {step} were never reached.")
            for step in self._probes:
                self._report.problem(f"Step {step}, before which to make a training step, was never reached.")
            if self._capture is not None:
                self._report.problem(f"Step {self._capture}, which was to be captured, was never reached.")
            for step in sorted(self._joins):
                self._report.problem(f"Step {step}, before which a sequence was to join, was never reached.")
        if len(self.trace.steps):
            self._report.summary(self.trace)
        if self.problem:
            raise BadInput(self.problem, DEVICE_LOST if self.is_lost else BAD_INPUT)
        return INTERRUPTED if interrupted else 0

    def awaits(self, step: int) -> bool:
        """Whether a change, a training step or a sequence comes before this step."""
        return step in self._script or step in self._probes or step in self._joins

    def take(self, event: Event) -> None:
        """Note the event, answer it, and note what sensors, and whoever writes it all down, have said meanwhile."""
        super().take(event)
        self._report_recording()
        if self._telemetry is not None:
            for sample in self._telemetry.receive():
                super().take(sample)

    def _report_recording(self) -> None:
        if self.recorder is None or perf_counter_ns() < self._next_report_ns:
            return
        self._next_report_ns = perf_counter_ns() + RECORDING_EVERY_NS
        steps, ns = self.recorder.cost()
        if steps:
            super().take(RecordingReport(perf_counter_ns(), steps, ns))

    def answer(self, event: Event) -> None:
        """Report; then the next command, where it is time for one."""
        self._report.event(event, self.trace)
        match event:
            case EngineStarted() if self._telemetry is not None:
                self._telemetry.watch(event.pid, event.devices)
            case ModelLoaded():
                self._check_script(event)
            case StepEnded() if self._measures_instrument and event.tokens:
                self._measures_instrument = False
                self.send(Alternate("detail", str(Detail.STEP)))
                self._change_before(event.index + 1)
            case StateChanged(state=EngineState.READY) | Calibrated(origin="measured"):
                self._go_on()
            case StepEnded():
                self._change_before(event.index + 1)
            case SettingsChanged():
                reasons = [f"{c.key}={c.requested}: {c.reason}" for c in event.changes if c.reason]
                if reasons:  # nobody would see the mark
                    self.give_up("; ".join(reasons))
            case KernelsCaptured():
                self._write_capture(event.step - self.trace.first_index)
            case Failed():
                self.give_up(event.sentence)
            case _:
                pass

    def _write_capture(self, row: int) -> None:
        capture = self.trace.capture(row)
        if self._capture_to is None or capture is None:
            return
        try:
            write_chrome_trace(capture, self._capture_to)
        except ExportRefused as refusal:
            self.give_up(str(refusal))

    def _go_on(self) -> None:
        """The engine is ready: generate once, then end."""
        if self._generate is None or self.problem:
            self.send(Shutdown())
            return
        if self._calibrate:
            self._calibrate = False
            self.send(Calibrate())
            return
        self._change_before(0)
        first = self._capture == 0
        self.send(replace(self._generate, paused=True) if first else self._generate)
        self._generate = None
        if first:
            self._capture_next()
            self.send(Resume())

    def _capture_next(self) -> None:
        self._capture = None
        self.send(CaptureStep())

    def _change_before(self, step: int) -> None:
        if step in self._script:
            self.send(Change(self._script.pop(step)))
        if step in self._probes and step:  # before step 0 there is no text
            self.send(self._probes.pop(step))
        for join in self._joins.pop(step, ()):
            self.send(join)
        if step and step == self._capture:
            self._capture_next()

    def _check_script(self, loaded: ModelLoaded) -> None:
        known = {facts.key for facts in loaded.settings}
        unknown = [key for settings in self._script.values() for key, _ in settings if key not in known]
        if unknown:
            self.give_up(f"There is no setting '{unknown[0]}'; there are: {', '.join(sorted(known))}.")


def check_capture(options: argparse.Namespace) -> None:
    """See that a capture can be taken and written before anything is measured. Raises BadInput."""
    target = options.capture_to
    if options.capture is None and target is not None:
        raise BadInput("--capture-to writes what --capture STEP captures: say which step.")
    if options.capture is not None and options.capture < 0:
        raise BadInput(f"There is no step {options.capture}: the first is 0.")
    if target is not None and target.exists():
        raise BadInput(f"{target} exists already and is not overwritten: choose another name.")
    if target is not None and not target.absolute().parent.is_dir():
        raise BadInput(f"There is no directory {target.absolute().parent} for the capture: make it first.")


def parse_settings(pairs: Sequence[str]) -> Configuration:
    """`key=value` pairs; values stay text, the engine knows their kinds. Raises BadInput."""
    settings = []
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key or not value:
            raise BadInput(f"'{pair}' is not a setting: write key=value, for example attention=eager.")
        settings.append((key.strip(), value.strip()))
    return tuple(settings)


def parse_script(entries: Sequence[str]) -> dict[int, Configuration]:
    """`step:key=value` entries, gathered by step. Raises BadInput."""
    script: dict[int, Configuration] = {}
    for entry in entries:
        step, colon, pair = entry.partition(":")
        if not colon or not step.strip().isdecimal():
            raise BadInput(
                f"'{entry}' does not say when: write step:key=value, for example 16:attention=eager."
            )
        script[int(step)] = (*script.get(int(step), ()), *parse_settings([pair]))
    return script


def parse_joins(options: argparse.Namespace) -> dict[int, tuple[Join, ...]]:
    """The sequences that --join asks for, by the step before which they join. Raises BadInput."""
    joins: dict[int, tuple[Join, ...]] = {}
    for entry in options.join:
        step, colon, text = entry.partition(":")
        if not colon or not step.strip().isdecimal() or not text:
            raise BadInput(f"'{entry}' does not say when: write step:text, for example '16:def main'.")
        if not int(step):
            raise BadInput(
                "Before step 0 there is nothing to join: give the prompts by --lines, or a later step."
            )
        join = Join(make_prompt(options, text), options.max_new_tokens, not options.ignore_end_token)
        joins[int(step)] = (*joins.get(int(step), ()), join)
    return joins


def read_prompt(given: str) -> str:
    """A text, or that of the file that @FILE names. Raises BadInput."""
    try:
        return prompt_text(given)
    except ValueError as problem:
        raise BadInput(str(problem)) from problem


def make_prompt(options: argparse.Namespace, given: str) -> Prompt:
    """The prompt that the options ask for, of a text or the file that @FILE names. Raises BadInput."""
    text = read_prompt(given)
    if not options.chat:
        if options.system is not None or options.thinking is not None or options.turn:
            raise BadInput("--system, --turn and --thinking belong to a chat: add --chat.")
        return Prompt(text, truncate=options.truncate)
    system = (Turn("system", options.system),) if options.system is not None else ()
    thinking = None if options.thinking is None else options.thinking == "on"
    turns = (*system, *map(parse_turn, options.turn), Turn("user", text))
    return Prompt(turns=turns, thinking=thinking, truncate=options.truncate)


def parse_turn(entry: str) -> Turn:
    """A turn given as `role:text`. Raises BadInput."""
    role, colon, text = entry.partition(":")
    if not colon or role not in ("user", "assistant"):
        raise BadInput(f"'{entry[:60]}' is not a turn: write user:TEXT or assistant:TEXT.")
    return Turn(role, text)


def walk(options: argparse.Namespace) -> int:
    """Visit every setting in one session, and print what each did."""
    if options.tokens < SHORTEST:
        raise BadInput(
            f"A stretch of {options.tokens} tokens is too short to compare: use {SHORTEST} or more."
        )
    walked = Walk(options.tokens, lambda name: print(f"{name} …", file=sys.stderr, flush=True))
    settings = (("auto_detail", "off"), *parse_settings(options.set))  # a station differs in one thing
    load = Load(options.model, options.device, settings)
    rows = walked.run(load, Generate(Prompt(read_prompt(options.prompt))))
    print_walk(rows, options.json, sys.stdout)
    if walked.problem:
        raise BadInput(walked.problem)
    if options.prefill:
        _walk_prefill(load, options)
    return 0


def _walk_prefill(load: Load, options: argparse.Namespace) -> None:
    text = read_prompt(options.prompt)
    text *= -(-options.prefill // len(text))
    reads = PrefillWalk(lambda name: print(f"{name} …", file=sys.stderr, flush=True))
    print_prefill_walk(reads.run(load, Prompt(text, truncate=True)), options.json, sys.stdout)
    if reads.problem:
        raise BadInput(reads.problem)


# ---------------------------------------------------------------- models, settings


def list_models(options: argparse.Namespace) -> int:
    """Print what models there are."""
    listed = ask(ListModels(), CatalogueListed)
    print_catalogue(listed.entries, options.json, sys.stdout)
    return 0


def list_settings(options: argparse.Namespace) -> int:
    """Print what can be switched for a model here."""
    seen: list[Event] = []
    probed = ask(Load(options.model, options.device), SettingsProbed, seen)
    (loaded,) = (event for event in seen if isinstance(event, ModelLoaded))
    print_settings(probed.settings, loaded.effective, options.json, sys.stdout)
    return 0


def ask(command: Command, kind: type[Answer], seen: list[Event] | None = None) -> Answer:
    """Start an engine for one command and return the event that answers it; `seen` gathers all events.

    Raises BadInput where the command fails.
    """
    asking = Asking(kind, seen)
    asking.converse(command)
    if asking.found is None:
        raise BadInput(asking.problem or "The engine gave no answer; run it again with the same command.")
    return asking.found


class Asking(Front, Generic[Answer]):
    """One command, until an event answers it: `found`, None where it fails."""

    def __init__(self, kind: type[Answer], seen: list[Event] | None) -> None:
        super().__init__()
        self.found: Answer | None = None
        self._kind, self._seen = kind, seen

    def answer(self, event: Event) -> None:
        """Keep it; end where it is the answer, or says that there is none."""
        if self._seen is not None:
            self._seen.append(event)
        if isinstance(event, self._kind):
            self.found = self.found or event
            self.send(Shutdown())
        elif isinstance(event, Failed):
            self.give_up(event.sentence)
