"""Which positions a model is told, step by step, and that it writes the right tokens with them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.protocol import Configuration
from tests.engine.runtime import small_encoders
from tests.engine.runtime.live_models import PROMPT, Bench, family_checkpoint, save_checkpoint
from tests.engine.runtime.small_models import build, two_reaches

SWITCHES: dict[int, Configuration] = {
    3: (("kv_cache", "none"),),
    6: (("kv_cache", "dynamic"), ("prefill_chunk", 5)),
    9: (("attention", "eager"), ("detail", "core")),
    12: (("kv_cache", "none"), ("attention", "sdpa")),
}


def _told(bench: Bench, changes: dict[int, Configuration] | None = None) -> list[list[int] | None]:
    """The positions that each step of a generation tells the model."""
    told: list[list[int] | None] = []
    model: Any = bench.workbench.live.model
    own = model.forward

    def listening(*args: Any, position_ids: torch.Tensor | None = None, **kwargs: Any) -> Any:
        told.append(None if position_ids is None else position_ids[0].tolist())
        return own(*args, position_ids=position_ids, **kwargs)

    model.forward = listening
    try:
        bench.generate(tokens=4, changes=changes)
    finally:
        model.forward = own
    return told


def test_a_model_that_counts_each_step_from_0_is_told_better_through_every_switch(tmp_path: Path) -> None:
    bench = Bench(family_checkpoint("bamba", tmp_path))
    expected = bench.reference()
    assert len(set(expected)) > 3
    assert bench.generate() == expected
    assert bench.generate(changes=dict(SWITCHES)) == expected
    requested = [change for _, changes in sorted(SWITCHES.items()) for change in changes]
    changes = [each for mark in bench.trace.marks for each in mark.event.changes]
    chosen = [
        (each.key, each.effective) for each in changes if each.key != "auto_detail"
    ]  # off with a chosen detail
    assert chosen == requested
    bench.close()


def test_positions_go_on_from_step_to_step_and_begin_anew_with_the_cache(tmp_path: Path) -> None:
    bench = Bench(family_checkpoint("llama", tmp_path))
    length = len(PROMPT.encode())
    bench.workbench.change((("prefill_chunk", length - 2),))
    whole = list(range(length + 4))
    chunks = [whole[: length - 2], whole[length - 2 : length]]
    steps = [[length], [length + 1], [length + 2]]
    assert _told(bench) == [*chunks, *steps]
    uncached = [whole[: length + 2], whole[: length + 3]]
    assert _told(bench, {2: (("kv_cache", "none"),)}) == [*chunks, steps[0], *uncached]
    bench.close()


def test_a_model_that_counts_from_behind_its_padding_s_place_does_so(tmp_path: Path) -> None:
    roberta = small_encoders.build(
        "roberta",
        "AutoModelForCausalLM",
        is_decoder=True,
        max_position_embeddings=128,
        initializer_range=0.6,
        tie_word_embeddings=False,
    )
    bench = Bench(save_checkpoint(roberta, tmp_path))
    assert set(map(str, _told(bench))) == {"None"}
    ids = bench.workbench.live.tokenizer(PROMPT)["input_ids"]
    expected: list[int] = []
    with torch.inference_mode():
        for _ in range(8):
            logits = roberta(input_ids=torch.tensor([ids + expected])).logits
            expected.append(int(logits[0, -1].argmax()))
    assert bench.generate(tokens=8) == expected != bench.reference(tokens=8)
    bench.close()


@pytest.mark.parametrize("length", [30, 36, 37, 50])
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_a_text_that_outgrows_a_model_s_short_reach_is_read_anew_whole(
    length: int, cache: str, tmp_path: Path
) -> None:
    model = build("phi3", **two_reaches(36))
    bench = Bench(save_checkpoint(model, tmp_path))
    bench.workbench.change((("kv_cache", cache), ("prefill_chunk", 8)))
    prompt = ("It turns at another frequency. " * 2)[:length]
    assert bench.generate(prompt) == bench.reference(prompt)
    bench.close()
