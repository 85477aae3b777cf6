"""The ledger: whatever is stamped, its phases sum to the wall time and its spans come back."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.trace.ledger import END, Layout, Span
from engine.trace.phases import PHASE_COUNT, Phase, Role, SpanName

ATTENTION = SpanName(Phase.ATTENTION, 0, "attn")
CORE = SpanName(Phase.ATTENTION_CORE, 0, "core")
BLOCK = SpanName(Phase.NORM, 0, "block")
MIXER = SpanName(Phase.MIXER, 2, "mixer")
SAMPLE = SpanName(Phase.SAMPLE, -1, "sample")


def phases(layout: Layout, *stamps: int) -> dict[Phase, int]:
    row = layout.phases_ns(np.array([stamps], np.int64))[0]
    assert row.shape == (PHASE_COUNT,)
    return {phase: int(row[phase]) for phase in Phase if row[phase]}


def test_a_step_without_spans_is_unattributed() -> None:
    layout = Layout((), ())
    assert layout.stamp_count == 2
    assert phases(layout, 100, 130) == {Phase.UNATTRIBUTED: 30}
    assert layout.layers_ns(np.array([[100, 130]])).shape == (1, 0, 3)
    assert layout.spans(np.array([100, 130])) == []


def test_time_goes_to_the_innermost_open_span() -> None:
    layout = Layout((BLOCK, ATTENTION, CORE, SAMPLE), (1, 2, 3, END, END, END, 4, END))
    stamps = (1000, 1001, 1003, 1007, 1015, 1031, 1063, 1127, 1255, 1511)
    assert phases(layout, *stamps) == {
        Phase.NORM: 2 + 32,
        Phase.ATTENTION: 4 + 16,
        Phase.ATTENTION_CORE: 8,
        Phase.SAMPLE: 128,
        Phase.UNATTRIBUTED: 1 + 64 + 256,
    }
    layers = layout.layers_ns(np.array([stamps]))
    assert layers.tolist() == [[[28, 0, 34]]]
    assert layout.spans(np.array(stamps)) == [
        Span(BLOCK, 0, 1, 62),
        Span(ATTENTION, 1, 3, 28),
        Span(CORE, 2, 7, 8),
        Span(SAMPLE, 0, 127, 128),
    ]


def test_layers_without_spans_are_zero_and_a_mixer_counts_as_mlp() -> None:
    layout = Layout((MIXER,), (1, END))
    assert layout.layer_count == 3
    assert layout.layers_ns(np.array([[0, 1, 6, 7]])).tolist() == [[[0, 0, 0], [0, 0, 0], [0, 5, 0]]]


def test_many_steps_at_once() -> None:
    layout = Layout((ATTENTION,), (1, END, 1, END))
    stamps = np.array([[0, 1, 3, 4, 8, 9], [10, 10, 20, 20, 20, 20]])
    assert layout.phases_ns(stamps)[:, [Phase.ATTENTION, Phase.UNATTRIBUTED]].tolist() == [[6, 3], [10, 0]]
    assert layout.phases_ns(stamps[:0]).shape == (0, PHASE_COUNT)
    assert layout.layers_ns(stamps[:0]).shape == (0, 1, len(Role))


def test_large_times_stay_exact() -> None:
    base = 2**62
    assert phases(Layout((ATTENTION,), (1, END)), base, base + 1, base + 2, base + 4) == {
        Phase.ATTENTION: 1,
        Phase.UNATTRIBUTED: 3,
    }


@pytest.mark.parametrize(
    ("codes", "sentence"),
    [
        ((END,), "was not begun"),
        ((1,), "open"),
        ((1, END, END), "was not begun"),
        ((2, END), "span 1"),
        ((-1,), "span -2"),
    ],
)
def test_codes_that_make_no_nest_are_refused(codes: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Layout((ATTENTION,), codes)


# ---------------------------------------------------------------- any nest of spans


@dataclass(frozen=True)
class Nest:
    """A span with what lies in it; `gaps`: time before each child and after the last."""

    name: SpanName
    gaps: tuple[int, ...]
    children: tuple["Nest", ...]

    @property
    def duration(self) -> int:
        return sum(self.gaps) + sum(child.duration for child in self.children)


@st.composite
def nests(draw: st.DrawFn, depth: int = 0) -> Nest:
    name = SpanName(
        draw(st.sampled_from(list(Phase))), draw(st.integers(-1, 3)), draw(st.sampled_from("abc"))
    )
    children = tuple(draw(st.lists(nests(depth + 1), max_size=3))) if depth < 3 else ()
    gaps = draw(st.tuples(*[st.integers(0, 10**6)] * (len(children) + 1)))
    return Nest(name, gaps, children)


def names_of(nest: Nest) -> list[SpanName]:
    return [nest.name, *(name for child in nest.children for name in names_of(child))]


def stamp(nest: Nest, now: int, names: list[SpanName], depth: int) -> tuple[list[int], list[int], list[Span]]:
    """Codes and stamps after the begin of a span, its end included, and the spans in it."""
    codes, stamps, spans = [], [], []
    for gap, child in zip(nest.gaps, nest.children, strict=False):
        now += gap
        inner = stamp(child, now, names, depth + 1)
        codes += [names.index(child.name) + 1, *inner[0]]
        stamps += [now, *inner[1]]
        spans += [Span(child.name, depth, now, child.duration), *inner[2]]
        now += child.duration
    return [*codes, END], [*stamps, now + nest.gaps[-1]], spans


def own_time(nest: Nest, into: dict[tuple[Phase, int], int]) -> None:
    key = (nest.name.phase, nest.name.layer)
    into[key] = into.get(key, 0) + sum(nest.gaps)
    for child in nest.children:
        own_time(child, into)


@given(nests(), st.integers(0, 10**15))
def test_any_nest_of_spans_sums_to_the_wall_and_comes_back(step: Nest, begin: int) -> None:
    names = list(dict.fromkeys(names_of(step)[1:]))  # the step itself is no span
    codes, stamps, spans = stamp(step, 0, names, 0)
    layout = Layout(tuple(names), tuple(codes[:-1]))
    row = np.array([0, *stamps], np.int64) + begin
    ledger = layout.phases_ns(row[None])[0]
    layers = layout.layers_ns(row[None])[0]

    assert ledger.sum() == step.duration == row[-1] - row[0]
    assert layers.sum() <= ledger.sum()
    assert layout.spans(row) == spans

    owned: dict[tuple[Phase, int], int] = {(Phase.UNATTRIBUTED, -1): sum(step.gaps)}
    for child in step.children:
        own_time(child, owned)
    for phase in Phase:
        assert ledger[phase] == sum(ns for (p, _), ns in owned.items() if p is phase)
    for layer in range(layout.layer_count):
        assert layers[layer].sum() == sum(ns for (_, number), ns in owned.items() if number == layer)
