"""Comparing outputs on real small models: what it feeds them is what the loop feeds them."""

from pathlib import Path

import pytest

from engine.protocol import Configuration, SamenessMeasured
from engine.runtime import sameness
from engine.runtime.sameness import SamenessRefused
from engine.trace.sameness import Sameness
from tests.engine.runtime.live_models import Bench, family_checkpoint

#: A rotary one, one with a sliding window (of less than the tokens here), one whose positions have to be told, states.
FAMILIES = ("llama", "mistral", "bamba", "mamba", "gpt2")


def against(bench: Bench, reference: Configuration, tokens: int = 24) -> Sameness:
    """Measured after some tokens of a generation, which then goes on."""
    run = bench.start(tokens=tokens + 1)
    while len(bench.trace.tokens) < tokens:
        run.step(held=False)
    run.measure_sameness(reference)
    run.end(run.step(held=True))
    (found,) = [event for event in bench.events if isinstance(event, SamenessMeasured)]
    return found.sameness


@pytest.mark.parametrize("family", FAMILIES)
def test_a_configuration_is_at_no_distance_from_itself(family: str, tmp_path: Path) -> None:
    bench = Bench(family_checkpoint(family, tmp_path))
    same = against(bench, ())
    assert same.greedy_is_same
    assert (same.top1, same.kl_mean, same.kl_p99, same.nll_change) == (1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_fed_token_by_token_is_what_a_whole_text_gives(family: str, tmp_path: Path) -> None:
    bench = Bench(family_checkpoint(family, tmp_path))
    same = against(bench, (("kv_cache", "none"),))
    assert same.greedy_is_same
    assert same.top1 == 1.0
    assert same.kl_p99 < 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_the_greedy_tokens_of_the_reference_are_those_that_the_loop_writes(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(family_checkpoint(family, tmp_path))
    written = bench.generate(tokens=40)
    bench = Bench(family_checkpoint(family, tmp_path))
    forced: list[int] = []
    compare = sameness.compare

    def heard(theirs: object, ours: object, ids: object, text: int) -> Sameness:
        forced.extend(ids[text:])  # type: ignore[index]
        return compare(theirs, ours, ids, text)  # type: ignore[arg-type]

    monkeypatch.setattr(sameness, "compare", heard)
    against(bench, (), tokens=12)
    assert forced[:28] == written[12:]


def test_a_window_that_forgets_is_far_from_a_cache_that_does_not(tmp_path: Path) -> None:
    bench = Bench(family_checkpoint("llama", tmp_path))
    bench.workbench.change((("kv_cache", "sliding"), ("kv_window", 8)))
    lossy = against(bench, (("kv_cache", "dynamic"),))
    assert lossy.kl_mean > 1e-6


def test_a_reference_that_is_not_possible_is_refused_and_the_generation_goes_on(tmp_path: Path) -> None:
    bench = Bench(family_checkpoint("mamba", tmp_path))
    run = bench.start(tokens=3)
    run.step(held=False)
    run.step(held=False)
    with pytest.raises(SamenessRefused, match=r"\."):
        run.measure_sameness((("kv_cache", "static"),))
    assert run.step(held=True) == "length"
