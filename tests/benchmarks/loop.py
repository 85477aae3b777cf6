"""Our decode loop with `layer` detail, events and all, against `model.generate()` of transformers."""

import argparse
from time import perf_counter_ns

import torch

from engine.protocol import Generate, Load
from engine.runtime.workbench import Workbench
from tests.benchmarks.common import interleave, median_ms, ratios, report

PROMPT = "The quick brown fox jumps over the lazy dog. " * 4


def main() -> None:
    """Print one JSON line a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    for model in ("llama-30m", "tiny"):
        measure(model, options.rounds, options.tokens)


def measure(model: str, rounds: int, tokens: int) -> None:
    """Compare the two loops on one model, prompt included, per token; both produce the same tokens."""
    bench = Workbench(Load(model), "process", lambda event: None, lambda: None)
    ids = torch.tensor([bench.live.tokenizer(PROMPT)["input_ids"]])

    def ours() -> float:
        begin_ns = perf_counter_ns()
        run = bench.start(Generate(PROMPT, tokens, stop_at_end_token=False), begin_ns)
        while not run.step(False):
            pass
        seconds = (perf_counter_ns() - begin_ns) / 1e9 / tokens
        run.end("length")
        return seconds

    def theirs() -> float:
        bench.live.probes and bench.live.probes.remove()
        begin_ns = perf_counter_ns()
        bench.live.model.generate(ids, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
        seconds = (perf_counter_ns() - begin_ns) / 1e9 / tokens
        bench.change((("detail", "step"),))
        bench.change((("detail", "layer"),))
        return seconds

    values = interleave(theirs, {"ours": ours}, rounds)
    report(
        "loop",
        model=model,
        threads=torch.get_num_threads(),
        rounds=rounds,
        tokens=tokens,
        median_ms=median_ms(values),
        against_generate=ratios(values),
    )
    bench.close()


if __name__ == "__main__":
    main()
