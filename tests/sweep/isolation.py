"""Examines model types one by one, each in a process of its own: a hang, a crash or a leak of one ends with it."""

import multiprocessing
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from multiprocessing.connection import Connection

import torch
import transformers

from engine.protocol import Family
from tests.sweep.examination import Outcome, examine

MOST_SECONDS = 60.0


def examine_all(types: Iterable[tuple[Family, str]]) -> Iterator[Outcome]:
    """The outcome of each, in order. One that hangs or crashes has failed to run, with that as its reason."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload([__name__])  # torch and transformers are imported once
    for family, model_type in types:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_examine, args=(family, model_type, sender), daemon=True)
        process.start()
        sender.close()
        yield _received(receiver, process) or Outcome(family, model_type, {"run": _why_none(process)})
        process.kill()
        process.join()


def _received(receiver: Connection, process: multiprocessing.process.BaseProcess) -> Outcome | None:
    try:
        return receiver.recv() if receiver.poll(MOST_SECONDS) else None
    except EOFError:
        process.join()
        return None


def _why_none(process: multiprocessing.process.BaseProcess) -> str:
    if process.exitcode is None:
        return f"it takes longer than {MOST_SECONDS:.0f} s"
    return f"it ends its process (exit code {process.exitcode})"


def _examine(family: Family, model_type: str, sender: Connection) -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    with redirect_stdout(StringIO()):  # a model may print
        outcome = examine(family, model_type)
    sender.send(outcome)
