"""What each level of detail costs: the decode loop with it, against the same loop with no instrumentation at all."""

import argparse
import statistics
from itertools import pairwise
from time import perf_counter_ns

import torch

from engine.protocol import Load
from engine.runtime.caches import new_cache
from engine.runtime.clocks import StampRecorder
from engine.runtime.generation import Generation, Limits
from engine.runtime.handing import marks_of
from engine.runtime.telemetry import measure_mark_cost_ns
from engine.runtime.workbench import Workbench
from engine.trace.phases import Detail
from tests.benchmarks.common import interleave, median_ms, ratios, report

PROMPT = "The quick brown fox jumps over the lazy dog. " * 4


class NoRecorder(StampRecorder):
    """Records nothing: the loop as it would be without instrumentation (only the arrival is read, once a token)."""

    def begin(self, code: int) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def turn(self, code: int) -> None:
        """Nothing."""

    def begin_step(self) -> None:
        """Nothing."""
        self.times[:] = self.times[:0]
        self.times.append(0)

    def end_step(self) -> tuple[bytes, bytes]:
        """Nothing."""
        return b"", b""


def main() -> None:
    """Print one JSON line a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--models", nargs="+", default=["llama-30m", "tiny"])
    options = parser.parse_args()
    for model in options.models:
        measure(model, options.rounds, options.tokens)


def measure(model: str, rounds: int, tokens: int) -> None:
    """Compare all levels on one model."""
    bench = Workbench(Load(model), "process", lambda event: None, lambda: None)
    live = bench.live
    recorder, silent = live.recorder, NoRecorder()

    def turn(detail: Detail | None) -> float:
        live.recorder = recorder
        bench.change((("detail", (detail or Detail.STEP).value),))
        live.recorder = recorder if detail else silent
        generation = Generation(live, bench.live.tokenizer(PROMPT)["input_ids"], Limits(tokens))
        generation.context.cache = new_cache(live, live.cache_kind, generation.context.capacity)
        return decode_seconds(generation)

    arms = {detail.value: (lambda d=detail: turn(d)) for detail in Detail}
    values = interleave(lambda: turn(None), arms, rounds)
    live.recorder = recorder
    marks = marks_per_step(bench, 4)
    cost_ns = measure_mark_cost_ns(StampRecorder())
    step_s = statistics.median(values["baseline"])
    report(
        "overhead",
        model=model,
        threads=torch.get_num_threads(),
        rounds=rounds,
        tokens=tokens,
        median_ms=median_ms(values),
        against_bare=ratios(values),
        marks_per_step=marks,
        mark_cost_ns=round(cost_ns, 1),
        marks_share_of_step=round(marks * cost_ns / 1e9 / step_s, 5),
    )
    bench.close()


def decode_seconds(generation: Generation) -> float:
    """Median time from one decode step to the next, in seconds, as a consumer of the loop sees it."""
    times = [perf_counter_ns() for _ in generation]
    gaps = [after - before for before, after in pairwise(times)]
    return statistics.median(gaps[4:]) / 1e9


def marks_per_step(bench: Workbench, tokens: int) -> int:
    """Stamps of a decode step at detail `layer`."""
    bench.change((("detail", "layer"),))
    live = bench.live
    generation = Generation(live, live.tokenizer(PROMPT)["input_ids"], Limits(tokens))
    generation.context.cache = new_cache(live, live.cache_kind, generation.context.capacity)
    *_, last = generation
    return marks_of(last)


if __name__ == "__main__":
    main()
