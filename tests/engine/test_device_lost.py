"""A device that fails for good in the middle of a token: in real engines, wherever they live, by an injected error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine.commands import main
from engine.hosts import DeviceLost, ProcessHost, ThreadHost, ending_sentence
from engine.protocol import (
    DEVICE_LOST,
    Calibrate,
    Change,
    Command,
    EngineEnded,
    Event,
    Failed,
    Generate,
    GenerationEnded,
    ListModels,
    Load,
    MeasureSameness,
    ModelLoaded,
    ProbeTraining,
    Prompt,
    StepEnded,
)
from engine.runtime import faults
from engine.runtime.faults import is_lost
from engine.runtime.generation import Generation, Stepped
from engine.trace.store import Trace
from tests.engine.runtime.live_models import family_checkpoint
from tests.engine.test_hosts import wait_for

FAILS_AT = 4
MESSAGE = "CUDA error: device-side assert triggered"
#: Read by each process that is started with it on its path: the fifth step fails as on a device that is lost.
INJECTED = f'''
import sys

class Inject:
    def find_spec(self, name, path=None, target=None):
        if name != "engine.runtime.workbench":
            return None
        sys.meta_path.remove(self)
        import torch
        from engine.runtime import generation
        step, count = generation.Generation._step, [0]
        def failing(self):
            count[0] += 1
            if count[0] > {FAILS_AT}:
                raise torch.AcceleratorError("{MESSAGE}")
            return step(self)
        generation.Generation._step = failing
        return None

sys.meta_path.insert(0, Inject())
'''


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family_checkpoint("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def injected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sitecustomize.py").write_text(INJECTED)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    )
    return tmp_path


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    step, steps = Generation._step, []

    def fails(self: Generation) -> Stepped:
        steps.append(1)
        if len(steps) > FAILS_AT:
            raise torch.AcceleratorError(MESSAGE)
        return step(self)

    monkeypatch.setattr(Generation, "_step", fails)


def check(events: list[Event], code: int | None) -> None:
    ended = events[-1]
    assert isinstance(ended, EngineEnded)
    assert ended.exit_code == code
    assert "device" in ended.sentence
    assert "what was measured is kept" in ended.sentence.lower()
    failure = next(event for event in events if isinstance(event, Failed))
    assert MESSAGE in failure.sentence
    assert next(event for event in events if isinstance(event, GenerationEnded)).reason == "failed"
    trace = Trace(next(event for event in events if isinstance(event, ModelLoaded)))
    trace.extend(events)
    assert len(trace.steps) == FAILS_AT
    assert len([event for event in events if isinstance(event, StepEnded)]) == FAILS_AT


def test_an_engine_process_says_what_it_measured_and_ends_with_its_own_code(
    llama: Path, injected: Path
) -> None:
    host = ProcessHost()
    host.start()
    host.send(Load(str(llama), "cpu"))
    host.send(Generate(Prompt("abc"), 20, stop_at_end_token=False))
    events: list[Event] = []
    wait_for(host, events, lambda event: isinstance(event, EngineEnded))
    host.stop()
    check(events, DEVICE_LOST)
    assert MESSAGE in events[-1].report  # type: ignore[union-attr]


def test_an_engine_in_a_thread_ends_and_leaves_its_process_alone(llama: Path, failing: None) -> None:
    host = ThreadHost()
    host.start()
    host.send(Load(str(llama), "cpu"))
    host.send(Generate(Prompt("abc"), 20, stop_at_end_token=False))
    events: list[Event] = []
    wait_for(host, events, lambda event: isinstance(event, EngineEnded))
    host.stop()
    check(events, DEVICE_LOST)


def test_a_run_without_a_window_reports_what_there_is_and_ends_with_its_own_code(
    llama: Path, failing: None, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "--model", str(llama), "--device", "cpu", "--prompt", "abc", "--json"]
    assert main([*arguments, "--max-new-tokens", "20", "--ignore-end-token"]) == DEVICE_LOST
    out, error = capsys.readouterr()
    assert out.count('"event": "step"') == FAILS_AT
    assert '"event": "summary"' in out
    assert MESSAGE in error


class _Failing:
    """What fails as on a device that is lost, whatever it is called with."""

    def __init__(self, *arguments: object, **named: object) -> None:
        raise torch.AcceleratorError(MESSAGE)


PAUSED = Generate(Prompt("abc"), 20, stop_at_end_token=False, paused=True)


@pytest.mark.parametrize(
    ("place", "commands", "reasons"),
    [
        ("engine.runtime.floors.measure", [Calibrate()], []),
        ("engine.runtime.telemetry.devices", [ListModels()], []),
        ("engine.runtime.workbench.apply_changes", [PAUSED, Change((("detail", "step"),))], ["failed"]),
        ("engine.runtime.run.measure_sameness", [PAUSED, MeasureSameness(())], ["failed"]),
        ("engine.runtime.run.training_step", [PAUSED, ProbeTraining(False, 1)], ["failed"]),
    ],
)
def test_a_device_that_fails_between_two_steps_ends_the_engine_in_the_same_way(
    llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    commands: list[Command],
    reasons: list[str],
) -> None:
    host = ThreadHost()
    host.start()
    host.send(Load(str(llama), "cpu"))
    events: list[Event] = []
    wait_for(host, events, lambda event: isinstance(event, ModelLoaded))
    monkeypatch.setattr(place, _Failing)
    for command in commands:
        host.send(command)
    wait_for(host, events, lambda event: isinstance(event, EngineEnded))
    host.stop()
    ended = events[-1]
    assert isinstance(ended, EngineEnded)
    assert ended.exit_code == DEVICE_LOST
    (failure,) = (event for event in events if isinstance(event, Failed))
    assert MESSAGE in failure.sentence
    assert failure.sentence.endswith("hat was measured is kept.")
    assert ("The generation ended" in failure.sentence) == bool(reasons)
    assert [event.reason for event in events if isinstance(event, GenerationEnded)] == reasons


@pytest.mark.parametrize(
    "message",
    [
        MESSAGE,
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: unspecified launch failure",
        "CUDA error: uncorrectable ECC error encountered",
        "HIP error: unspecified launch failure",
        "no CUDA-capable device is detected",
        "level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)",
    ],
)
def test_what_drivers_say_of_errors_that_stay_is_known(message: str) -> None:
    assert is_lost(RuntimeError(message))
    outer = ValueError("the step could not be compiled")
    outer.__cause__ = torch.AcceleratorError(message)
    assert is_lost(outer)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
        RuntimeError("shapes cannot be multiplied"),
        ValueError(MESSAGE),  # it quotes, no device says so
    ],
)
def test_other_errors_are_survived(error: Exception) -> None:
    assert not is_lost(error)


@pytest.mark.parametrize("answers", [True, False])
def test_of_unknown_errors_it_is_tried_whether_the_device_answers(
    monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    def synchronize() -> None:
        if not answers:
            raise RuntimeError("CUDA error: something new")

    monkeypatch.setattr(faults.torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(faults.torch.accelerator, "synchronize", synchronize)
    assert is_lost(torch.AcceleratorError("CUDA error: something new")) is not answers


def test_the_code_has_a_sentence_and_the_error_is_one_of_ours() -> None:
    assert "device failed" in ending_sentence(DEVICE_LOST)
    assert issubclass(DeviceLost, Exception)


def test_the_injection_reaches_a_process(injected: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; print([type(f).__name__ for f in sys.meta_path][0])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "Inject"
