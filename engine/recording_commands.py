"""Recording a run without a window, and `python -m engine replay`, which says again what was recorded."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.bad_input import INTERRUPTED, BadInput
from engine.front import Front
from engine.protocol import EngineEnded, Event, Failed, ModelLoaded
from engine.replay import ALL_AT_ONCE, ReplayHost
from engine.report import JsonReport, Report, TextReport
from engine.sample_session import SESSION_HELP, session_path
from engine.trace.recording import Recorder
from engine.trace.store import Trace

LOOK_EVERY_S = 0.01


def add_record(parser: argparse.ArgumentParser) -> None:
    """What a run needs to know to be recorded."""
    parser.add_argument(
        "--record", metavar="FILE", type=Path, help="write all that is measured into a session file"
    )
    parser.add_argument("--force", action="store_true", help="replace that file if it is there already")


def add_replay(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("file", metavar="FILE", type=session_path, help=SESSION_HELP)
    parser.add_argument(
        "--speed",
        type=_speed,
        default=ALL_AT_ONCE,
        metavar="X",
        help="1: as it was then (default: all at once)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line, a summary last")
    parser.set_defaults(run=replay)


def _speed(text: str) -> float:
    speed = float(text)
    if not speed > 0:
        raise argparse.ArgumentTypeError(f"a speed is above 0, not {text}")
    return speed


@contextmanager
def recorded(front: Front, path: Path, force: bool) -> Iterator[None]:
    """While it lasts, all that is said is written into a file. Raises BadInput where that cannot be, or went wrong."""
    if path.exists() and not force:
        raise BadInput(f"There is a file '{path}' already: choose another name, or replace it with --force.")
    if not path.parent.is_dir() or path.is_dir():
        raise BadInput(f"'{path}' can be no file: choose a name in a directory that exists.")
    recorder = front.recorder = Recorder(lambda loaded: path, overwrite=force, front="engine run")
    try:
        yield
    finally:
        recorder.close()
        for sentence in recorder.news:
            if sentence != recorder.problem:
                print(sentence, file=sys.stderr)
    if recorder.problem:
        raise BadInput(recorder.problem)
    if recorder.path is not None:
        costs = [*((told.steps, told.ns_per_step) for told in front.trace.recording), recorder.cost()]
        steps = sum(count for count, _ in costs)
        mean_ns = sum(count * ns for count, ns in costs) / max(1, steps)
        print(
            f"[recorded: {steps:,} steps in {path}, at {mean_ns / 1e3:,.0f} µs of processor time each]",
            file=sys.stderr,
        )


def replay(options: argparse.Namespace) -> int:
    """Report what a recording says, as a run would have."""
    report: Report = JsonReport(sys.stdout) if options.json else TextReport(sys.stdout, sys.stderr)
    host = ReplayHost(options.file, options.speed, ends=True)
    host.start()
    trace = Trace()
    try:
        for event in _said(host):
            if isinstance(event, Failed) and event.command == "load":
                raise BadInput(event.sentence)
            if isinstance(event, ModelLoaded):
                trace = Trace(event, trace.engine)
                for notice in host.session.notices if host.session else ():
                    report.problem(notice)
            trace.append(event)
            report.event(event, trace)
    except KeyboardInterrupt:
        report.summary(trace)
        return INTERRUPTED
    finally:
        host.stop()
    report.summary(trace)
    return 0


def _said(host: ReplayHost) -> Iterator[Event]:
    while True:
        events = host.receive()
        for event in events:
            if isinstance(event, EngineEnded):
                return
            yield event
        if not events:
            time.sleep(LOOK_EVERY_S)
