"""Sentences and labels."""

from engine.protocol import Beam, BeamsRanked, SettingChange, SettingsChanged
from engine.trace.ledger import Span
from engine.trace.phases import Phase, SpanName, StepKind
from engine.trace.store import Trace
from gui import view_texts as texts
from tests.engine.trace.building import APART, MS, T0, ended, loaded, started, step, trace_of
from tests.gui import readers, synthetic


def test_a_step_in_one_sentence() -> None:
    trace = synthetic.trace(10, synthetic.Shape(layers=2, chunks=2))
    sentence = texts.step_sentence(trace, 5)
    assert sentence.startswith("step 5 · decode · ")
    assert sentence.endswith("context 516 · “of␣”")
    assert "256 prompt tokens" in texts.step_sentence(trace, 0)


def test_the_ledger_sums_to_the_wall_time() -> None:
    trace = synthetic.trace(10, synthetic.Shape(layers=2))
    entries = texts.ledger(trace, 7)
    assert sum(e.ns for e in entries) == trace.steps.wall_ns[7]
    assert Phase.ATTENTION_CORE not in [e.phase for e in entries]


def test_a_ledger_line_that_is_too_long_says_other() -> None:
    entries = [
        texts.LedgerEntry(Phase.ATTENTION, 6_000_000, 0.6),
        texts.LedgerEntry(Phase.MLP, 3_000_000, 0.3),
        texts.LedgerEntry(Phase.STOP, 1_000_000, 0.1),
    ]
    wide = texts.fitting_ledger(entries, 1000, len)
    assert [text for text, *_ in wide] == ["attention 6.00", "MLP 3.00", "stop 1.00"]
    narrow = texts.fitting_ledger(entries, 75, len)
    assert [(text, phase) for text, phase, _ in narrow] == [
        ("attention 6.00", Phase.ATTENTION),
        ("other 4.00", None),
    ]


def test_configurations_are_named_by_what_changed() -> None:
    a, b = (("cache", "dynamic"), ("precision", "float32")), (("cache", "static"), ("precision", "float32"))
    assert texts.configuration_labels([a, b, a]) == ["as started", "cache static"]
    assert texts.configuration_labels([]) == []


def test_labels_are_staggered_and_never_overlap() -> None:
    assert texts.place_labels([0, 10, 20, 60], [50, 50, 50, 50], 2, 1000) == [
        (0, 0),
        (10, 1),
        (20, -1),
        (60, 0),
    ]
    assert texts.place_labels([90], [50], 2, 100) == [(50, 0)]


def test_a_change_says_what_was_asked_and_why_not() -> None:
    change = SettingChange("attention", "flash", "sdpa", "no flash kernel here")
    event = SettingsChanged(0, 3, (change,), 2_000_000, 1, ())
    assert texts.change_sentences(event) == [
        "attention → sdpa (asked: flash): no flash kernel here",
        "the switch took 2.00 ms",
    ]


def test_groups_are_runs_of_outermost_spans() -> None:
    def span(phase: Phase, depth: int, begin: int, end: int) -> Span:
        return Span(SpanName(phase, -1, "x"), depth, begin, end - begin)

    spans = [
        span(Phase.EMBED, 0, 1, 5),
        span(Phase.NORM, 0, 6, 20),
        span(Phase.ATTENTION, 1, 7, 12),
        span(Phase.HEAD, 0, 21, 30),
        span(Phase.SAMPLE, 0, 31, 35),
        span(Phase.STOP, 0, 36, 40),
    ]
    assert texts.group_spans(spans) == [texts.GroupSpan("forward", 1, 30), texts.GroupSpan("decode", 31, 40)]


def test_spans_have_shorter_names_for_less_room() -> None:
    attention = Span(SpanName(Phase.ATTENTION, 7, "self_attn"), 1, 0, 1)
    assert texts.span_labels(attention) == ("L07 attention", "attention")
    assert texts.span_labels(Span(SpanName(Phase.NORM, 7, "layer"), 0, 0, 1)) == ("L07", "7")
    assert texts.span_labels(Span(SpanName(Phase.NORM, -1, "layers"), 0, 0, 1)) == ("layers",)


def test_a_step_that_reads_says_how_much_and_how_much_for_nothing() -> None:
    trace = readers.trace()
    assert texts.step_sentence(trace, 0) == "step 0 · encode · 8.00 ms · 2 sequences · 10 tokens · 4 padding"
    assert texts.step_sentence(trace, 1) == "step 1 · encode · 8.00 ms · 1 sequence · 5 tokens"
    assert texts.latency_sentence(trace, 0) == "4.00 ms a sequence of 7 tokens with padding"


def test_what_is_decoded_together_is_told_beside_the_text() -> None:
    batch = {"effective": (("beams", 1),)}
    beams = {"effective": (("beams", 3),)}
    events = [APART, started(), step([T0 + MS])]
    together = step([T0 + 2 * MS], batch=3, sequences=range(3))
    trace = Trace(loaded(**batch))
    trace.extend(events)
    assert texts.together_sentence(trace) == ""
    trace.append(together)
    assert texts.together_sentence(trace) == "+ 2 more sequences running"
    assert "3 sequences" in texts.step_sentence(trace, 1)
    assert texts.step_sentence(trace, 1).endswith("“a”")
    trace.append(ended())
    assert texts.together_sentence(trace) == "+ 2 more sequences"
    trace = Trace(loaded(**beams))
    trace.extend([*events, step(batch=3), BeamsRanked(1, 0, (Beam(" and", 1, -0.5), Beam(" or", 1, -0.7)))])
    assert texts.together_sentence(trace) == "3 beams, not agreed yet: “␣and”"
    assert "3 beams" in texts.step_sentence(trace, 1)


def test_beams_are_told_in_a_trace_that_was_cleared() -> None:
    trace = Trace(loaded(effective=(("beams", 2),)))
    trace.extend([APART, started(), step(index=40, batch=2), step(index=41, batch=2)])
    trace.append(BeamsRanked(41, 0, (Beam(" and", 1, -0.5), Beam(" or", 1, -0.7))))
    assert texts.together_sentence(trace) == "2 beams, not agreed yet: “␣and”"
    trace.append(step(index=42, batch=2))
    assert texts.together_sentence(trace) == "+ 1 more sequence running"


def test_a_step_behind_the_end_says_that_it_was_taken_back() -> None:
    trace = Trace(loaded(effective=(("read_back", "pipelined"),)))
    trace.extend([APART, started(), step([T0 + MS], padding_tokens=1)])
    assert "1 taken back" in texts.step_sentence(trace, 0)


def test_labels_beside_each_other_share_the_room() -> None:
    assert texts.shared_widths([80, 500], 1_000) == [80, 220]
    assert texts.shared_widths([80, 500, 300], 490) == [80, 160, 160]
    assert texts.shared_widths([100] * 9, 300) == [60] * 9, "what is shorter could not be read"


def test_a_verify_step_says_how_many_proposals_were_right() -> None:
    trace = trace_of(started(), step([T0 + MS] * 3, kind=StepKind.VERIFY, drafted=5, accepted=2))
    assert "2 of 5 proposed tokens right" in texts.step_sentence(trace, 0)
