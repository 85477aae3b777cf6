"""Our decode loop with `layer` detail against `model.generate()` of transformers: time per decoded token.

Each turn generates a short and a long continuation of one prompt; their difference is decoding alone, without prompt,
tokenization and set-up. "loop" is the loop itself, "with events" is all that an engine process does for a step, its
events pickled and written (to nowhere) included. "bare" is the least that a loop around this model can take: its
forward pass and the likeliest token, without text, stamps, or an end.
"""

import argparse
import os
from collections.abc import Callable
from time import perf_counter_ns

import torch

from engine.protocol import Generate, Load, Prompt
from engine.runtime.caches import new_cache
from engine.runtime.generation import Generation, Limits
from engine.runtime.serve import GATHER_NS, Outbox
from engine.runtime.starting import start
from engine.runtime.workbench import Workbench
from tests.benchmarks.common import interleave, median_ms, ratios, report

PROMPT = "The quick brown fox jumps over the lazy dog. " * 4
SHORT = 16


def main() -> None:
    """Print one JSON line a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=64, help="decoded tokens that are timed, a turn")
    parser.add_argument("--models", nargs="+", default=["llama-30m", "tiny"])
    options = parser.parse_args()
    for model in options.models:
        measure(model, options.rounds, options.tokens)


def measure(model: str, rounds: int, tokens: int) -> None:
    """Compare the loops on one model; all produce the same tokens."""
    outbox = Outbox(os.fdopen(os.open(os.devnull, os.O_WRONLY), "wb"))
    bench = Workbench(
        Load(model), "process", outbox.emit, outbox.flush, is_awaited=lambda: False, gather_ns=GATHER_NS
    )
    live = bench.live
    row = live.tokenizer(PROMPT)["input_ids"]
    ids = torch.tensor([row])

    def generate(count: int) -> None:
        live.model.generate(ids, max_new_tokens=count, min_new_tokens=count, do_sample=False)

    def loop(count: int) -> None:
        generation = Generation(live, row, Limits(count))
        generation.context.cache = new_cache(live, live.cache_kind, generation.context.capacity)
        for _ in generation:
            pass

    @torch.inference_mode()
    def bare(count: int) -> None:
        cache, fed = new_cache(live, live.cache_kind, len(row) + count), ids
        positions = torch.arange(len(row) + count).unsqueeze(0)
        for _ in range(count):
            at = positions[:, cache.get_seq_length() :][:, : fed.shape[1]]
            output = live.model(input_ids=fed, past_key_values=cache, position_ids=at, logits_to_keep=1)
            fed = output.logits[:, -1:].argmax(-1)
            fed.tolist()

    def with_events(count: int) -> None:
        run = start(bench, Generate(Prompt(PROMPT), count, stop_at_end_token=False), perf_counter_ns())
        while not run.step(False):
            pass
        run.end("length")

    def turn(work: Callable[[int], None], detail: str) -> float:
        bench.change((("detail", detail),))
        begin_ns = perf_counter_ns()
        work(SHORT)
        middle_ns = perf_counter_ns()
        work(SHORT + tokens)
        return (perf_counter_ns() - middle_ns - (middle_ns - begin_ns)) / 1e9 / tokens

    values = interleave(
        lambda: turn(generate, "step"),
        {
            "loop": lambda: turn(loop, "layer"),
            "with events": lambda: turn(with_events, "layer"),
            "bare": lambda: turn(bare, "step"),
        },
        rounds,
    )
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
