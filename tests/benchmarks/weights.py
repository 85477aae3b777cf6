"""What the settings of the weights do to a decode step and to prefill: float32 against each of them, interleaved.

A turn is one configuration: it is switched to, its first steps are discarded, and the median of its decode steps
counts; prefill is timed apart. Everything runs through the loop of the engine, without probes. On a core that others
use too, `--clock cpu` leaves out the time in which they had it (with one thread).
"""

import argparse
import statistics
from time import perf_counter_ns, process_time_ns

import torch

from engine.protocol import Configuration, Load
from engine.runtime.caches import new_cache
from engine.runtime.generation import Generation, Limits
from engine.runtime.workbench import Workbench
from tests.benchmarks.common import interleave, median_ms, ratios, report

ARMS: dict[str, Configuration] = {
    "bfloat16": (("precision", "bfloat16"),),
    "bfloat16 products": (("matmul_precision", "bf16"),),
    "int8": (("quantization", "int8"),),
    "int8 on bfloat16": (("precision", "bfloat16"), ("quantization", "int8")),
    "int4": (("quantization", "int4"),),
    "int4 on bfloat16": (("precision", "bfloat16"), ("quantization", "int4")),
    "int8 dynamic": (("quantization", "int8_dynamic"),),
    "half of the MLP": (("mlp_pruning", 50),),
    "half of the heads": (("head_pruning", 50),),
    "half of the layers": (("layer_skipping", 4),),
    "half zero": (("sparsity", "unstructured"),),
}
PROMPT = 128
CLOCKS = {"wall": perf_counter_ns, "cpu": process_time_ns}


def main() -> None:
    """Print a JSON line for decoding and one for prefill, a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=24, help="decode steps that are timed, a turn")
    parser.add_argument("--models", nargs="+", default=["llama-30m", "demo"])
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    options = parser.parse_args()
    for model in options.models:
        measure(
            model, {name: ARMS[name] for name in options.arms}, options.rounds, options.tokens, options.clock
        )


def measure(model: str, arms: dict[str, Configuration], rounds: int, tokens: int, clock: str) -> None:
    """Compare the configurations on one model."""
    bench = Workbench(
        Load(model, settings=(("precision", "float32"),)), "process", lambda event: None, lambda: None
    )
    live = bench.live
    row = [(37 * place + 11) % live.facts.vocabulary for place in range(PROMPT)]
    defaults = {fact.key: fact.default for fact in bench.facts}
    refused = {
        (fact.key, choice.value): fact.reason or choice.reason
        for fact in bench.facts
        for choice in fact.choices
    }
    impossible = {name: next(filter(None, map(refused.get, arm)), "") for name, arm in arms.items()}
    arms = {name: arm for name, arm in arms.items() if not impossible[name]}
    touched = {key: defaults[key] for arm in ARMS.values() for key, _ in arm} | {"detail": "step"}

    def turn(configuration: Configuration, prefill: bool) -> float:
        bench.change(tuple((touched | dict(configuration)).items()))
        effective = dict(bench.effective())
        assert all(effective[key] == value for key, value in configuration), configuration
        if prefill:
            return min(_steps(1)[0] for _ in range(2))
        return statistics.median(_steps(tokens + 2)[2:])

    def _steps(count: int) -> list[float]:
        generation = Generation(live, row, Limits(count))
        generation.context.cache = new_cache(live, live.cache_kind, generation.context.capacity)
        now = CLOCKS[clock]
        times, begin_ns = [], now()
        for _ in generation:
            end_ns = now()
            times.append((end_ns - begin_ns) / 1e9)
            begin_ns = end_ns
        return times

    for name, prefill in (("decode step", False), (f"prefill of {PROMPT}", True)):
        values = interleave(
            lambda prefill=prefill: turn((), prefill),
            {arm: (lambda c=c, prefill=prefill: turn(c, prefill)) for arm, c in arms.items()},
            rounds,
            warm_up=1,
        )
        report(
            "weights",
            what=name,
            model=model,
            clock=clock,
            threads=torch.get_num_threads(),
            rounds=rounds,
            median_ms=median_ms(values),
            against_float32=ratios(values),
            not_possible={name: reason for name, reason in impossible.items() if reason},
        )
    bench.close()


if __name__ == "__main__":
    main()
