"""The cycle model on traces whose times are made by a known law, and what it says where there is none."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from engine.protocol import Event, StepEnded
from engine.report import JsonReport
from engine.trace.cycle_model import decode_models, lines, prefill_models
from engine.trace.phases import StepKind
from engine.trace.records import cycle_record
from tests.engine.trace.building import T0, joined, started, step, trace_of

PREFILL = StepKind.PREFILL


def decode_step(context: int, attention: float, mlp: float, sample: float, **others: object) -> StepEnded:
    """A decode step at a context whose phases take so many ns."""
    ends = np.cumsum([0, attention, mlp, sample]).round().astype(int).tolist()
    stamps = (0, 0, ends[1], ends[1], ends[2], ends[2], ends[3], ends[3])
    return step([T0], stamps=stamps, context_length=context, **others)  # type: ignore[arg-type]


def textbook(contexts: Sequence[int], noise: float = 0.0, seed: int = 0) -> list[Event]:
    """Attention 2 µs + 3 ns · context, MLP 50 µs, choosing 10 µs, times a little noise."""
    random = np.random.default_rng(seed)
    wobble = 1 + noise * random.standard_normal((len(contexts), 3))
    parts = [(2_000 + 3 * c, 50_000, 10_000) * w for c, w in zip(contexts, wobble, strict=True)]
    return [decode_step(c, *part) for c, part in zip(contexts, parts, strict=True)]


def test_a_textbook_trace_is_told_as_it_was_made() -> None:
    (model,) = decode_models(trace_of(started(), *textbook(range(100, 1_100))))
    assert model.contexts == (100, 1_099)
    assert model.whole.fit.intercept_ns == pytest.approx(62_000, abs=1)
    assert model.whole.fit.slope_ns == pytest.approx(3, rel=1e-3)
    assert model.whole.fit.count == 1_000
    assert model.whole.residual < 1e-4
    assert model.error == pytest.approx(0, abs=1e-4)
    assert model.holds
    terms = {term.name: term for term in model.terms}
    assert list(terms) == ["layers", "attention", "sample"]
    assert terms["layers"].fit.slope_ns == pytest.approx(0, abs=1e-6)
    assert terms["attention"].fit.intercept_ns == pytest.approx(2_000, abs=1)
    assert terms["attention"].fit.slope_ns == pytest.approx(3, rel=1e-3)
    assert terms["sample"].share == pytest.approx(10_000 / 63_800, rel=0.01)
    assert sum(term.share for term in model.terms) == pytest.approx(1, rel=0.001)


def test_noise_and_stalls_move_it_little() -> None:
    events = textbook(range(100, 1_100), noise=0.03)
    events[::40] = [decode_step(100 + 40 * n, 2_000, 900_000, 10_000) for n in range(25)]
    (model,) = decode_models(trace_of(started(), *events))
    assert model.whole.fit.intercept_ns == pytest.approx(62_000, rel=0.03)
    assert model.whole.fit.slope_ns == pytest.approx(3, rel=0.15)
    assert 0.01 < model.whole.residual < 0.05
    assert not model.holds  # stalls took a third of the time, and the formula knows nothing of them
    assert model.error < -0.2


def test_what_grows_with_the_square_is_not_the_textbooks_law() -> None:
    contexts = range(10, 1_010)
    events = [decode_step(c, 0.5 * c * c, 1_000, 0) for c in contexts]
    (model,) = decode_models(trace_of(started(), *events))
    assert model.whole.residual > 0.1


def test_floors_are_fitted_alike() -> None:
    events = [
        replace(event, floor_ns=5_000 + 2 * event.context_length, calibration=0)
        for event in textbook(range(100, 300))
        if isinstance(event, StepEnded)
    ]
    (model,) = decode_models(trace_of(started(), *events))
    assert model.floor is not None
    assert model.floor.intercept_ns == pytest.approx(5_000, abs=1)
    assert model.floor.slope_ns == pytest.approx(2, rel=1e-3)
    (bare,) = decode_models(trace_of(started(), *textbook(range(100, 300))))
    assert bare.floor is None


def test_configurations_and_batches_are_kept_apart() -> None:
    first = textbook(range(100, 200))
    second = [decode_step(c, 9_000, 90_000, 1_000, configuration=1) for c in range(200, 300)]
    others = [decode_step(c, 9_000, 900_000, 1_000, configuration=1, batch=2) for c in range(300, 320)]
    models = decode_models(trace_of(started(), *first, *second, *others))
    assert [model.configuration for model in models] == [0, 1]
    assert models[1].whole.fit.count == 100
    assert models[1].whole.fit.intercept_ns == pytest.approx(100_000, rel=1e-3)


def test_a_selection_of_steps_has_a_model_of_its_own() -> None:
    trace = trace_of(started(), *textbook(range(100, 1_100)))
    (model,) = decode_models(trace, range(500, 600))
    assert model.contexts == (600, 699)
    assert decode_models(trace, range(8)) == []


def test_in_one_piece_no_terms_are_told_apart() -> None:
    events = [
        step([T0], stamps=(0, 0, 50_000 + c, 50_000 + c, 60_000 + c, 60_000 + c), layout=1, context_length=c)
        for c in range(100, 200)
    ]
    (model,) = decode_models(trace_of(started(), *events))
    assert model.terms == ()
    assert model.whole.fit.slope_ns == pytest.approx(1, rel=1e-3)


def test_too_few_steps_or_one_context_tell_nothing() -> None:
    assert decode_models(trace_of()) == []
    assert decode_models(trace_of(started(), *textbook(range(10)))) == []
    assert decode_models(trace_of(started(), *textbook([100] * 50))) == []
    assert prefill_models(trace_of()) == []
    assert lines(trace_of()) == []
    assert cycle_record(trace_of()) is None


# ---------------------------------------------------------------- prefill


def prompt_step(
    tokens: int, past: int = 0, last: bool = True, factor: float = 1.0, **others: object
) -> StepEnded:
    """A chunk that takes 1 ms + 20 µs a token + 4 ns a pair."""
    pairs = tokens * past + tokens * (tokens + 1) // 2
    wall = round((1_000_000 + 20_000 * tokens + 4 * pairs) * factor)
    return step(
        [T0] if last else [],
        stamps=(0,) * 7 + (wall,),
        kind=PREFILL,
        prompt_tokens=tokens,
        context_length=past + tokens + last,
        **others,  # type: ignore[arg-type]
    )


def test_prompts_of_several_lengths() -> None:
    lengths = (16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096)
    (model,) = prefill_models(trace_of(started(), *map(prompt_step, lengths)))
    assert model.constant_ns == pytest.approx(1e6, rel=1e-3)
    assert model.token_ns == pytest.approx(20_000, rel=1e-3)
    assert model.pair_ns == pytest.approx(4, rel=1e-3)
    assert (model.chunks, model.count) == ((16, 4_096), 9)
    assert model.residual < 1e-4
    assert model.prompt_ns(100) == pytest.approx(1e6 + 2e6 + 4 * 5_050, rel=1e-3)
    assert model.floor is None
    assert model.predicted_ns == pytest.approx(model.measured_ns, rel=1e-4)
    assert model.measured_ns == sum(1_000_000 + 20_000 * n + 2 * n * (n + 1) for n in lengths)
    assert model.holds


def test_what_theory_says_of_prompts_is_fitted_in_the_same_way() -> None:
    lengths = (16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096)
    floors = [500_000 + 8_000 * n + n * (n + 1) // 2 for n in lengths]
    steps = [replace(prompt_step(n), floor_ns=ns) for n, ns in zip(lengths, floors, strict=True)]
    (model,) = prefill_models(trace_of(started(), *steps))
    assert model.floor is not None
    assert model.floor.constant_ns == pytest.approx(500_000, rel=1e-3)
    assert model.floor.token_ns == pytest.approx(8_000, rel=1e-3)
    assert model.floor.pair_ns == pytest.approx(1, rel=1e-2)


def test_times_of_prompts_that_no_such_formula_tells_are_not_held_by_it() -> None:
    lengths = (16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096)
    steps = [prompt_step(n, factor=3.0 if n == 4_096 else 1.0) for n in (*lengths[:-1], *lengths)]
    (model,) = prefill_models(trace_of(started(), *steps))
    assert model.error < -0.3
    assert not model.holds


def test_chunks_of_one_long_prompt() -> None:
    chunks = [prompt_step(512, past, last=past == 512 * 15) for past in range(0, 512 * 16, 512)]
    (model,) = prefill_models(trace_of(started(), *chunks))
    assert model.constant_ns is None  # all chunks have the same length
    assert model.token_ns == pytest.approx(20_000 + 1_000_000 / 512, rel=1e-3)
    assert model.pair_ns == pytest.approx(4, rel=1e-3)


def test_a_few_disturbed_prompts_do_not_move_it() -> None:
    lengths = (16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096) * 3
    steps = [prompt_step(n, factor=5.0 if place % 7 == 3 else 1.0) for place, n in enumerate(lengths)]
    (model,) = prefill_models(trace_of(started(), *steps))
    assert model.token_ns == pytest.approx(20_000, rel=0.02)
    assert model.pair_ns == pytest.approx(4, rel=0.02)


def test_prompts_of_one_length_tell_nothing() -> None:
    assert prefill_models(trace_of(started(), *[prompt_step(64) for _ in range(20)])) == []


def test_padding_batches_and_joined_generations_are_left_out() -> None:
    lengths = (16, 32, 64, 128, 256, 512, 1_024)
    padded = [prompt_step(n, padding_tokens=3) for n in lengths]
    batched = [prompt_step(n, batch=2) for n in lengths]
    assert prefill_models(trace_of(started(), *padded, *batched)) == []
    assert prefill_models(trace_of(started(), joined(), *map(prompt_step, lengths))) == []


# ---------------------------------------------------------------- words


def test_words_and_json() -> None:
    lengths = (16, 32, 64, 128, 256, 512, 1_024)
    trace = trace_of(started(), *map(prompt_step, lengths), *textbook(range(100, 1_100)))
    told = "\n".join(lines(trace))
    assert "decode steps of configuration 0 (1,000 at contexts 100 to 1,099)" in told
    assert "0.062 ms    +0.0030 µs · context" in told
    assert "T = n·(layers + attention + sample) + n·V holds" in told
    assert "20.00 µs · tokens + 4.00 ns · pairs" in told
    assert "T = constant + linear + quadratic term holds" in told
    out = io.StringIO()
    JsonReport(out).summary(trace)
    model, _ = map(json.loads, out.getvalue().splitlines())
    assert model["event"] == "cycle_model"
    assert model["decode"][0]["holds"] is True
    assert model["decode"][0]["whole"]["fit"]["slope_ns"] == pytest.approx(3, rel=1e-3)
    assert model["prefill"][0]["count"] == 7
    assert model["prefill"][0]["holds"] is True
