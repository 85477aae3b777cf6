"""The recorder and the loop on a scripted clock and a fake model: every nanosecond is known beforehand."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import torch
from transformers import PreTrainedConfig

from engine.protocol import ModelFacts
from engine.runtime.anatomy import Anatomy
from engine.runtime.clocks import StampRecorder
from engine.runtime.generation import Generation, Limits
from engine.runtime.live import LiveModel
from engine.trace.ledger import Layout
from engine.trace.phases import Detail, Phase, Role, SpanName, StepKind
from tests.engine.runtime.live_models import byte_tokenizer

FACTS = ModelFacts("fake", "Fake", 0, 0, "float32", "cpu", ("0",), 1, 256, 64, True, "bytes", 0)


class ScriptedClock:
    """Says the scripted times, one a call."""

    def __init__(self, times: Iterator[int]) -> None:
        self._times = times

    def __call__(self) -> int:
        return next(self._times)


def layout_of(recorder: StampRecorder, codes: bytes) -> Layout:
    return Layout(recorder.names, tuple(np.frombuffer(codes, np.uint16).tolist()))


def test_codes_are_stable_and_name_their_spans() -> None:
    recorder = StampRecorder()
    code = recorder.define(Phase.MLP, 3, "mlp")
    assert recorder.define(Phase.MLP, 3, "mlp") == code == 1
    assert recorder.define(Phase.MLP, 4, "mlp") == 2
    assert recorder.names == (SpanName(Phase.MLP, 3, "mlp"), SpanName(Phase.MLP, 4, "mlp"))


def test_a_recorded_step_becomes_exactly_its_phases() -> None:
    times = iter([1000, 1010, 1015, 1075, 1080, 1100, 1107])
    recorder = StampRecorder(ScriptedClock(times))
    block = recorder.define(Phase.NORM, 0, "block")
    attention = recorder.define(Phase.ATTENTION, 0, "attention")
    recorder.begin_step()
    recorder.begin(block)
    recorder.begin(attention)
    recorder.end()
    recorder.end()
    recorder.begin(recorder.define(Phase.SAMPLE))
    recorder.times.append(1101)  # ended by hand
    recorder.codes.append(0)
    codes, stamps = recorder.end_step()
    layout = layout_of(recorder, codes)
    phases = layout.phases_ns(np.frombuffer(stamps, np.int64)[None])[0]
    expected = {Phase.NORM: 5 + 5, Phase.ATTENTION: 60, Phase.SAMPLE: 1, Phase.UNATTRIBUTED: 10 + 20 + 6}
    assert {phase: phases[phase] for phase in Phase if phases[phase]} == expected
    assert phases.sum() == 107
    layers = layout.layers_ns(np.frombuffer(stamps, np.int64)[None])[0]
    assert layers[0, Role.ATTENTION] == 60
    assert layers[0, Role.REST] == 10


def test_a_new_step_forgets_the_one_before() -> None:
    recorder = StampRecorder(ScriptedClock(iter(range(100))))
    recorder.begin_step()
    recorder.begin(recorder.define(Phase.SAMPLE))
    recorder.begin_step()
    codes, stamps = recorder.end_step()
    assert codes == b""
    assert np.frombuffer(stamps, np.int64).tolist() == [2, 3]


class FakeModel:
    """Answers each call with logits that choose the next letter; takes 50 ticks of the clock each time."""

    config = PreTrainedConfig()

    def __init__(self, ticks: list[int]) -> None:
        self.ticks = ticks
        self.fed: list[list[int]] = []

    def forward(self, input_ids: torch.Tensor, **_: object) -> SimpleNamespace:
        self.fed.append(input_ids[0].tolist())
        self.ticks[0] += 50
        logits = torch.zeros(1, 1, 256)
        logits[0, 0, (self.fed[-1][-1] + 1) % 256] = 1.0
        return SimpleNamespace(logits=logits)

    __call__ = forward


def test_the_loop_on_a_fake_model_takes_known_times() -> None:
    ticks = [0]

    def clock() -> int:
        ticks[0] += 1
        return ticks[0]

    model = FakeModel(ticks)
    live = LiveModel(
        model=model,  # type: ignore[arg-type]
        tokenizer=byte_tokenizer(),
        facts=FACTS,
        device=torch.device("cpu"),
        anatomy=Anatomy.__new__(Anatomy),
        recorder=StampRecorder(clock),
        detail=Detail.STEP,
        prefill_chunk=3,
    )
    first = byte_tokenizer()("abcd")["input_ids"]
    steps = list(Generation(live, first, Limits(3)))
    assert [step.kind for step in steps] == [
        StepKind.PREFILL,
        StepKind.PREFILL,
        StepKind.DECODE,
        StepKind.DECODE,
    ]
    assert [len(step.tokens) for step in steps] == [0, 1, 1, 1]
    assert [step.prompt_tokens for step in steps] == [3, 1, 0, 0]
    assert model.fed == [first[:3], first[3:], [first[3] + 1], [first[3] + 2]]
    assert [step.end_reason for step in steps] == ["", "", "", "length"]
    for step, calls in zip(steps, (7, 10, 10, 10), strict=True):
        stamps = np.frombuffer(step.stamps, np.int64)
        phases = layout_of(live.recorder, step.codes).phases_ns(stamps[None])[0]
        assert stamps[-1] - stamps[0] == 50 + calls
        assert phases[Phase.FORWARD] == 52  # and one tick of putting the input together
        assert phases[Phase.TRANSFER] == 1
        assert phases[Phase.UNATTRIBUTED] == 4
    arrivals = [token.arrival_ns for step in steps for token in step.tokens]
    assert np.diff(arrivals).tolist() == [61, 61]
