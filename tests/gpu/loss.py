"""A device that is lost for real: an engine process whose fifth step indexes out of bounds on the device."""

import os
import tempfile
import time
from pathlib import Path

from engine.hosts import ProcessHost
from engine.protocol import EngineEnded, Event, Generate, GenerationEnded, Load, Prompt, StepEnded
from tests.gpu.rig import Setup

PATIENCE_S = 300.0
#: Read by the engine process as it starts; it waits for the module that it changes.
_INJECTED = """
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
            if count[0] == 5:
                table = torch.zeros(4, device=self._live.device)
                table[torch.tensor([1 << 20], device=self._live.device)].sum().item()
            return step(self)
        generation.Generation._step = failing
        return None

sys.meta_path.insert(0, Inject())
"""


def lose(setup: Setup) -> tuple[int | None, int]:
    """Exit code of the engine that lost its device, and how many steps it told."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "sitecustomize.py").write_text(_INJECTED)
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (directory, before)))
        try:
            events = _run(setup, EngineEnded, 50)
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before
    ended = events[-1]
    assert isinstance(ended, EngineEnded)
    return ended.exit_code, sum(isinstance(event, StepEnded) for event in events)


def goes_on(setup: Setup) -> int:
    """Tokens that a new engine makes on the same device."""
    events = _run(setup, GenerationEnded, 8)
    return sum(len(event.tokens) for event in events if isinstance(event, StepEnded))


def _run(setup: Setup, last: type[Event], tokens: int) -> list[Event]:  # type: ignore[valid-type]
    host, events = ProcessHost(), []
    host.start()
    host.send(Load(setup.small, setup.device))
    host.send(Generate(Prompt("abc"), tokens, stop_at_end_token=False))
    deadline = time.monotonic() + PATIENCE_S
    try:
        while time.monotonic() < deadline:
            events += host.receive()
            if any(isinstance(event, last) for event in events):  # type: ignore[arg-type]
                return events
            time.sleep(0.01)
    finally:
        host.stop()
    raise RuntimeError(f"The engine did not come to its end within {PATIENCE_S:.0f} s.")
