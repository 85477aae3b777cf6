"""The store: events folded into columns, and the views that are read from them."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

from engine.protocol import (
    Calibrated,
    EngineState,
    Family,
    FloorBeaten,
    MemorySampled,
    Progress,
    SequenceResult,
    SequencesEncoded,
    SettingChange,
    SettingsChanged,
    ShapeDefined,
    StateChanged,
)
from engine.trace.phases import Phase, StepKind
from engine.trace.shapes import ModelShape
from engine.trace.store import KINDS, NO_LATENCY, Column, Trace, mark_text
from tests.engine.trace.building import (
    MS,
    NAMES,
    T0,
    changed,
    encode_step,
    ended,
    loaded,
    started,
    step,
    trace_of,
)
from tests.engine.trace.test_floor import calibration


def test_a_step_whose_clock_jumped_is_refused_and_the_trace_goes_on() -> None:
    back = step(stamps=(100, 101, 103, 90, 106, 106, 108, 110), index=1)
    trace = trace_of(started(), step(stamps=(10, 11, 13, 13, 16, 16, 18, 20)))
    with pytest.raises(ValueError, match="times of step 1 run backwards"):
        trace.append(back)
    trace.append(step(stamps=(200, 201, 203, 203, 206, 206, 208, 210), index=2))
    assert trace.steps.wall_ns.tolist() == [10, 10]


def test_a_step_becomes_a_row_of_every_column() -> None:
    event = step(
        [T0 + 7, T0 + 7],
        stamps=(100, 101, 103, 103, 106, 106, 108, 110),
        kind=StepKind.VERIFY,
        held_ns=4,
        context_length=12,
        prompt_tokens=3,
        batch=2,
        drafted=3,
        accepted=1,
    )
    trace = trace_of(started(), event, layers=2)
    steps = trace.steps
    assert len(steps) == 1
    assert (steps.begin_ns[0], steps.wall_ns[0], steps.held_ns[0]) == (100, 10, 4)
    assert KINDS[steps.kind[0]] is trace.kind(0) is StepKind.VERIFY
    assert (steps.context_length[0], steps.prompt_tokens[0], steps.batch[0]) == (12, 3, 2)
    assert (steps.drafted[0], steps.accepted[0]) == (3, 1)
    assert steps.phases_ns[0][[Phase.ATTENTION, Phase.MLP, Phase.SAMPLE, Phase.UNATTRIBUTED]].tolist() == [
        2,
        3,
        2,
        3,
    ]
    assert steps.layers_ns[0].tolist() == [[2, 3, 0], [0, 0, 0]]
    assert trace.stamps(0).tolist() == [100, 101, 103, 103, 106, 106, 108, 110]
    assert [(s.name, s.begin_ns, s.duration_ns) for s in trace.spans(0)] == [
        (NAMES[0], 1, 2),
        (NAMES[1], 3, 3),
        (NAMES[2], 6, 2),
    ]
    assert trace.tokens_of(0) == range(2)
    assert trace.tokens.step.tolist() == [0, 0]
    assert trace.tokens.arrival_ns.tolist() == [T0 + 7, T0 + 7]
    assert trace.tokens.id.tolist() == [0, 1]
    assert trace.tokens.text == ["a", "b"]


def test_every_column_grows_together_and_keeps_what_was_there() -> None:
    trace = trace_of(started(), *(step([T0 + i * MS], stamps=(i, *[i] * 6, 2 * i)) for i in range(1000)))
    assert {len(getattr(trace.steps, name)) for name in trace.steps._columns} == {1000}
    assert trace.steps.wall_ns.tolist() == list(range(1000))
    assert trace.steps.phases_ns.sum(axis=1).tolist() == list(range(1000))
    assert trace.stamps(700).tolist() == [700] * 7 + [1400]
    assert trace.tokens.arrival_ns[-1] == T0 + 999 * MS
    assert trace.tokens_of(999) == range(999, 1000)


def test_columns_are_read_as_views() -> None:
    column = Column(np.int64, (2,))
    assert column.values.shape == (0, 2)
    column.extend(np.arange(20).reshape(10, 2))
    column.append((7, 8))
    assert column.values[9:].tolist() == [[18, 19], [7, 8]]
    assert column.values.base is not None
    assert np.shares_memory(column.values, column.values[3:5])
    column.extend(np.ones((600, 2), np.int64))
    assert len(column) == 611
    assert column.values[10].tolist() == [7, 8]
    assert column.values.sum() == sum(range(20)) + 15 + 1200


def test_gaps_leave_out_what_was_held() -> None:
    trace = trace_of(
        started(),
        step(kind=StepKind.PREFILL, held_ns=70),
        step([T0 + 100], kind=StepKind.PREFILL),
        step([T0 + 140, T0 + 140]),
        step([T0 + 1180], held_ns=1000),
        step(held_ns=5),
        step([T0 + 1230], held_ns=5),
    )
    assert trace.steps.itl_ns.tolist() == [NO_LATENCY, NO_LATENCY, 40, 40, NO_LATENCY, 40]


def test_of_a_step_that_read_two_tokens_one_after_the_other_the_last_gap_counts() -> None:
    trace = trace_of(
        started(),
        step([T0 + 100]),
        step(),
        step([T0 + 150, T0 + 180], held_ns=7),
        step([T0 + 225], held_ns=5),
    )
    assert trace.steps.itl_ns.tolist() == [NO_LATENCY, NO_LATENCY, 30, 40]


def test_a_generation_owns_its_steps_tokens_and_text() -> None:
    trace = trace_of(
        started(3),
        step(generation=3),
        step([T0 + 1, T0 + 1], generation=3),
        ended(3, tail="�"),
        started(4, T0 + 50),
        started(5, T0 + 60),
        step([T0 + 90], generation=5),
    )
    first, empty, running = trace.generations
    assert (first.first_step, first.end_step, first.ended is not None) == (0, 2, True)
    assert (empty.first_step, empty.end_step, empty.ended) == (2, 2, None)
    assert (running.first_step, running.end_step, running.ended) == (2, 3, None)
    assert [trace.token_indices(g) for g in trace.generations] == [range(2), range(3, 3), range(2, 3)]
    assert [trace.text_of(g) for g in trace.generations] == ["ab�", "", "a"]
    assert trace.steps.itl_ns.tolist() == [NO_LATENCY] * 3  # no gap reaches over into the next generation


def test_the_end_of_an_unknown_generation_changes_no_other() -> None:
    trace = trace_of(started(1), ended(2))
    assert trace.generations[0].ended is None


def test_a_change_leaves_a_mark_before_the_step_that_feels_it() -> None:
    fast = (("precision", "bfloat16"),)
    trace = trace_of(started(), step(), changed(1, fast), step(configuration=1))
    assert [(m.step, m.at_ns, m.kind) for m in trace.marks] == [(1, T0, "settings")]
    assert trace.configurations == [(("precision", "float32"),), fast]
    assert trace.configuration == fast
    assert trace.steps.configuration.tolist() == [0, 1]


def test_a_refused_change_leaves_a_mark_and_the_configuration() -> None:
    trace = trace_of(changed(0, (("precision", "float32"),)))
    assert len(trace.marks) == 1
    assert trace.configurations == [(("precision", "float32"),)]


def test_marks_say_what_was_asked_for_where_it_differs() -> None:
    changes = (
        SettingChange("precision", "float16", "bfloat16", "slow here"),
        SettingChange("cache", "none", "none"),
    )
    event = SettingsChanged(0, 0, changes, 0, 1, ())
    assert mark_text(event) == "precision → bfloat16 (asked: float16), cache → none"


def test_memory_is_kept_and_revision_grows_with_what_could_be_drawn_only() -> None:
    trace = Trace(loaded())
    assert trace.revision == 0
    trace.extend([Progress(0, "loading", None), StateChanged(0, EngineState.READY)])
    assert trace.revision == 0
    sample = MemorySampled(1, 2, 3, 4)
    trace.append(sample)
    assert trace.memory == [sample]
    assert trace.revision == 1


def test_a_step_that_does_not_fit_its_layout_is_refused_and_leaves_no_half_row() -> None:
    trace = trace_of(started(), step())
    before = trace.revision
    with pytest.raises(ValueError, match="7 stamps, its layout 8"):
        trace.append(step(stamps=(0,) * 7))
    with pytest.raises(KeyError):
        trace.append(step(layout=9))
    assert {len(getattr(trace.steps, name)) for name in trace.steps._columns} == {1}
    assert trace.revision == before


def test_more_or_fewer_layers_than_the_model_said() -> None:
    assert trace_of(started(), step(), layers=0).steps.layers_ns.shape == (1, 0, 3)
    assert trace_of(started(), step(), layers=3).steps.layers_ns[0].tolist() == [
        [2, 3, 0],
        [0, 0, 0],
        [0, 0, 0],
    ]


def test_an_unknown_column_is_an_attribute_error_and_a_trace_can_be_copied() -> None:
    trace = trace_of(started(), step([T0]))
    with pytest.raises(AttributeError, match="wall_time"):
        _ = trace.steps.wall_time
    for other in (copy.deepcopy(trace), pickle.loads(pickle.dumps(trace))):
        assert other.steps.wall_ns.tolist() == [10]
        other.append(step([T0 + 1]))
        assert other.steps.itl_ns.tolist() == [NO_LATENCY, 1]
    assert len(trace.steps) == 1


def test_what_an_encoder_made_of_its_inputs_is_kept_beside_its_steps() -> None:
    told = SequencesEncoded(1, 0, (SequenceResult("a cat", 4, (("noun", 0.9),)),))
    trace = trace_of(
        started(),
        encode_step(10, batch=2, tokens=9, padding=3),
        encode_step(20, batch=1, tokens=4),
        family=Family.ENCODER,
    )
    before = trace.revision
    trace.append(told)
    assert trace.results == [told]
    assert trace.revision == before + 1
    assert trace.steps.batch.tolist() == [2, 1]
    assert trace.steps.padding_tokens.tolist() == [3, 0]
    assert trace.steps.itl_ns.tolist() == [NO_LATENCY, NO_LATENCY]
    assert trace.text_of(trace.generations[0]) == ""
    assert trace.generations[0].end_step == 2


def test_an_empty_trace_can_be_read() -> None:
    trace = Trace()
    assert (len(trace.steps), len(trace.tokens), trace.layer_count, trace.configuration) == (0, 0, 0, ())
    assert trace.steps.phases_ns.sum() == 0


def test_floors_stand_in_the_steps_and_calibrations_are_found_by_number() -> None:
    machine = calibration()
    floored = replace(step([T0]), moved_bytes=100, operations=200, floor_ns=3, calibration=7)
    shape = ModelShape(decoder=())
    trace = trace_of(Calibrated(T0, 7, machine, "measured"), ShapeDefined(T0, 1, shape), step([T0]), floored)
    assert trace.steps.moved_bytes.tolist() == [0, 100]
    assert trace.steps.operations.tolist() == [0, 200]
    assert trace.steps.floor_ns.tolist() == [0, 3]
    assert trace.steps.calibration.tolist() == [-1, 7]
    assert trace.calibrations[7].calibration == machine
    assert trace.shape(1) == shape
    assert trace.shape(0) is None
    trace.append(FloorBeaten(T0, 1, 2, 3))
    assert [event.step for event in trace.beaten_floors] == [1]
