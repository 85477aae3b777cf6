"""Every kind of model has a floor, a bandwidth utilization and an intensity, and takes no step below its floor.

The machine is really measured, if with small working sets: those are read at least as fast as larger ones, so that the
floors of the larger models are a little lower than they would be.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.runtime import floors
from engine.runtime.calibration import Machine, measure
from engine.runtime.models.demo import DEMOS
from engine.runtime.models.presets import PRESETS
from engine.trace.calibration import Calibration
from engine.trace.floor import Part
from engine.trace.metrics import summary
from engine.trace.parts import parts_of
from engine.trace.phases import StepKind
from engine.trace.store import Trace
from tests.engine.runtime import small_seq2seq
from tests.engine.runtime.live_models import Bench, family_checkpoint, save_checkpoint, torch_kept
from tests.engine.runtime.small_encoders import encoder_checkpoint
from tests.engine.trace.test_floor import MIB

LARGEST = 32 * MIB
QUICK, MOST = 200_000_000, 2_000_000_000  # parameters: of models that are loaded each time, and at all
BUILT_IN = [
    *DEMOS,
    *(
        pytest.param(preset.name, marks=pytest.mark.slow if preset.parameters > QUICK else ())
        for preset in PRESETS.values()
        if preset.parameters < MOST
    ),
]
TOKENS = 6


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    yield from torch_kept()


@pytest.fixture(scope="module")
def known() -> dict[Machine, Calibration]:
    """What was measured so far: once a machine is enough for all models."""
    return {}


@pytest.fixture(autouse=True)
def measured_once(known: dict[Machine, Calibration], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def once(machine: Machine, is_awaited: Callable[[], bool]) -> Calibration:
        if machine not in known:
            known[machine] = measure(machine, is_awaited, largest=LARGEST)
        return known[machine]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "records"))
    monkeypatch.setattr(floors, "measure", once)


def run(model: str | Path, prompt: str = "The cycle of a token") -> Trace:
    """A few steps of a model on a machine that was measured."""
    bench = Bench(Path(model))
    try:
        bench.workbench.change((("instrumentation", "layer"),))
        bench.workbench.floors.calibrate(lambda: False)
        bench.generate(prompt, tokens=TOKENS)
    finally:
        bench.close()
    return bench.trace


def hold(trace: Trace) -> None:
    steps = trace.steps
    assert len(steps) > 1
    assert (steps.floor_ns > 0).all()
    assert (steps.floor_ns <= steps.wall_ns).all()
    assert not trace.beaten_floors
    found = summary(trace)
    for key in ("floor_share", "mbu"):
        assert found[key].value is not None
        assert 0 < found[key].value <= 1
    assert found["intensity"].value is not None
    assert found["intensity"].value > 0
    last = parts_of(trace, len(steps) - 1)
    assert all(part.floor_ns > 0 for part in last)
    assert sum(int(part.work.nbytes) for part in last) == pytest.approx(int(steps.moved_bytes[-1]), abs=2)


@pytest.mark.parametrize("model", BUILT_IN)
def test_every_built_in_model_has_a_floor(model: str) -> None:
    trace = run(model)
    hold(trace)
    assert {part.part for part in parts_of(trace, len(trace.steps) - 1)} >= {
        Part.ATTENTION,
        Part.MLP,
        Part.HEAD,
    }


@pytest.mark.parametrize(
    "family",
    ["llama", "gpt2", "mistral", "gemma2", "mixtral", "deepseek_v3", "mamba", "mamba2", "rwkv", "qwen3_next"],
)
def test_every_kind_of_decoder_has_a_floor(family: str, tmp_path: Path) -> None:
    hold(run(family_checkpoint(family, tmp_path)))


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_an_encoder_decoder_has_a_floor_on_both_sides(family: str, tmp_path: Path) -> None:
    trace = run(save_checkpoint(small_seq2seq.build(family), tmp_path))
    hold(trace)
    assert {trace.kind(step) for step in range(len(trace.steps))} == {StepKind.ENCODE, StepKind.DECODE}


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_model_that_only_reads_has_a_floor(family: str, tmp_path: Path) -> None:
    hold(run(encoder_checkpoint(family, tmp_path), "a line\nanother line"))
