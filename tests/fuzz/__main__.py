"""`python -m tests.fuzz [--cases N] [--seed S]`: session files spoiled in many ways are read; figures are printed."""

import argparse
import multiprocessing
import sys
import tempfile
from pathlib import Path

from tests.engine.trace.recording.sessions import rich, written
from tests.fuzz.session_files import MOST_TIMES, Figures, work
from tests.gui import synthetic

TOGETHER = 250  # cases a process
PATIENCE_S = 300.0  # for the cases of a process
MOST_BYTES = 2**30


def main() -> int:
    """Print the figures; 1 where anything crashed, hung, or took too much."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=5000, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the first case (default: %(default)s)")
    options = parser.parse_args()
    total = Figures()
    with tempfile.TemporaryDirectory() as directory:
        small = written(Path(directory) / "small.cyclograph", rich())
        shape = synthetic.Shape(layers=12, generation_steps=300, mark_every=40)
        large = written(
            Path(directory) / "large.cyclograph", [synthetic.loaded(12), *synthetic.events(1500, shape)], 500
        )
        for begin in range(options.seed, options.seed + options.cases, TOGETHER):
            seeds = range(begin, min(begin + TOGETHER, options.seed + options.cases))
            _add(total, _in_a_process(large if (begin // TOGETHER) % 4 == 3 else small, seeds), seeds)
            print(f"\r{total.cases:,} cases", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return _report(total)


def _in_a_process(original: Path, seeds: range) -> Figures | None:
    """The figures of some cases; None where the process died of them, or hung."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(original, seeds, sender))
    process.start()
    sender.close()
    try:
        figures: Figures | None = receiver.recv() if receiver.poll(PATIENCE_S) else None
    except EOFError:
        figures = None
    process.kill()
    process.join()
    return figures


def _add(total: Figures, part: Figures | None, seeds: range) -> None:
    if part is None:
        total.failures.append(f"the process died or hung within the seeds {seeds.start} to {seeds.stop - 1}")
        return
    for name in ("cases", "refused", "repaired", "read"):
        setattr(total, name, getattr(total, name) + getattr(part, name))
    if part.slowest > total.slowest:
        total.slowest, total.slowest_seed = part.slowest, part.slowest_seed
    total.peak_bytes = max(total.peak_bytes, part.peak_bytes)
    total.failures += part.failures
    total.sentences.update(part.sentences)


def _report(total: Figures) -> int:
    print(
        f"{total.cases:,} spoiled session files: {total.refused:,} refused with one sentence, {total.repaired:,} read"
        f" with notices, {total.read:,} read as they were.\nSlowest: {total.slowest:.1f} times the processor time of"
        f" the file as it was (seed {total.slowest_seed}). Most memory of a process:"
        f" {total.peak_bytes / 2**20:,.0f} MiB."
    )
    for failure in total.failures:
        print(failure)
    bad = bool(total.failures) or total.slowest > MOST_TIMES or total.peak_bytes > MOST_BYTES
    print(f"{len(total.failures):,} failures" + (": not good." if bad else ": no crash, no hang, no flood."))
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
