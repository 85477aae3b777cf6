"""The scenarios: each runs real models on the device, and says what was found and what is expected of it."""

import statistics
from collections import Counter
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch

from engine.protocol import DEVICE_LOST
from engine.runtime.clocks import StampRecorder
from engine.runtime.device_clock import DeviceRecorder
from engine.runtime.telemetry import measure_mark_cost_ns
from engine.trace.lanes import Bound, lane_times, verdict_of
from engine.trace.phases import GROUPS, Detail, Phase
from tests.benchmarks.common import interleave, ratios
from tests.benchmarks.overhead import NoRecorder
from tests.gpu import loss
from tests.gpu.rig import (
    Outcome,
    Rig,
    Setup,
    counted_synchronizations,
    ms,
    percent,
    rig,
    seconds_a_token,
    without_marks,
)
from tests.gpu.split import split_layers

Rows = "np.ndarray[Any, np.dtype[np.int64]]"
Scenario = Callable[[Setup, Outcome], None]


def synchronizations(setup: Setup, outcome: Outcome) -> None:
    """Measuring waits for nothing: a step synchronizes as often with the device's clock as without."""
    counts = {}
    for detail in ("bare", "step", "layer", "core"):
        with rig(setup, setup.small, f"synchronizations-{detail}", outcome) as made:
            if detail == "bare":
                made.bench.live.recorder = NoRecorder()
                work = made.loop
            else:
                made.change(detail=detail)
                work = made.generate  # type: ignore[assignment]
            work(16)
            with counted_synchronizations(setup) as found:
                work(setup.tokens)
            counts[detail] = len(found)
            places = ", ".join(f"{place} ×{n}" for place, n in Counter(found).most_common(3))
            outcome.found(f"{detail}: in {setup.tokens} tokens", f"{len(found)} ({places or 'none'})")
    added = max(counts.values()) - counts["bare"]
    outcome.found("added by measuring", str(added), "at most 2 a generation", added <= 2)


def mark_cost(setup: Setup, outcome: Outcome) -> None:
    """What a mark costs on the host, with and without an event, and what reading an event costs."""
    with rig(setup, setup.small, "mark-cost", outcome, detail="layer") as made:
        recorder = made.bench.recorder
        outcome.found("mark of the host's clock", f"{measure_mark_cost_ns(StampRecorder()):.0f} ns")
        outcome.found("mark of both clocks", f"{measure_mark_cost_ns(recorder):.0f} ns")
        if not isinstance(recorder, DeviceRecorder):
            outcome.found("device clock", made.bench.live.no_device_clock or "none on the CPU")
            return
        made.bench.take_reading_ns()
        rows = made.generate(setup.tokens)
        marks = len(made.trace.layout(int(rows[0])).codes) + 2
        reading_ns = made.bench.take_reading_ns()
        outcome.found("marks a step at layer detail", str(marks))
        if reading_ns:
            outcome.found("reading a step", f"{reading_ns / 1e3:.0f} µs in all that was left to read")


def overhead(setup: Setup, outcome: Outcome) -> None:
    """Each level of detail against the same loop with no instrumentation."""
    for model, budget in ((setup.small, 1.03), (setup.large, 1.01)):
        with rig(setup, model, f"overhead-{model}", outcome) as made:
            live, recorder = made.bench.live, made.bench.live.recorder

            def turn(detail: Detail | None, made: Rig = made, live: Any = live, own: Any = recorder) -> float:
                live.recorder = own
                made.change(detail=str(detail or Detail.STEP))
                live.recorder = own if detail else NoRecorder()
                return seconds_a_token(made.loop, setup.tokens)

            arms = {str(detail): (lambda d=detail: turn(d)) for detail in Detail}
            values = interleave(lambda: turn(None), arms, setup.rounds)
            live.recorder = recorder
            outcome.found(f"{model}: bare loop", ms(statistics.median(values["baseline"])))
            for name, found in ratios(values).items():
                expected = f"≤ {budget}" if name == "layer" else ""
                outcome.found(
                    f"{model}: {name}",
                    f"{found['ratio']:.4f} ({found['low']:.4f} – {found['high']:.4f})",
                    expected,
                    found["low"] <= budget if expected else None,
                )


def ledger(setup: Setup, outcome: Outcome) -> None:
    """The phases of a step sum to its wall time, and little of it is in none of them."""
    for model in (setup.small, setup.large):
        for detail in ("step", "phase", "layer", "core"):
            with rig(setup, model, f"ledger-{model}-{detail}", outcome, detail=detail) as made:
                rows = made.generate(setup.tokens)
                steps = made.trace.steps
                exact = bool((steps.phases_ns[rows].sum(axis=1) == steps.wall_ns[rows]).all())
                with_clock = float((steps.device_offset[rows] >= 0).mean())
                share = float(np.median(steps.phases_ns[rows, Phase.UNATTRIBUTED] / steps.wall_ns[rows]))
                name = f"{model}, {detail}"
                outcome.found(f"{name}: sums", "exactly" if exact else "NOT", "exactly", exact)
                outcome.found(
                    f"{name}: steps with device times", percent(with_clock), "100 %", with_clock == 1.0
                )
                outcome.found(f"{name}: unattributed", percent(share), "≤ 5 %", share <= 0.05)
                for notice in made.notices:
                    outcome.found(f"{name}: notice", notice)


def two_lanes(setup: Setup, outcome: Outcome) -> None:
    """A small model waits for its launches; of a large one it is said what it waits for."""
    for model, expected in ((setup.small, {Bound.LAUNCH}), (setup.large, set(Bound))):
        with rig(setup, model, f"lanes-{model}", outcome, detail="layer") as made:
            made.calibrate()
            rows = made.generate(setup.tokens)
            found = [both for row in rows if (both := lane_times(made.trace, int(row))) is not None]
            if len(found) < len(rows):
                outcome.found(f"{model}: lanes", f"of {len(found)} of {len(rows)} steps", "of all", False)
                continue
            verdicts = Counter(
                verdict_of(made.trace, int(row), both).bound for row, both in zip(rows, found, strict=True)
            )
            usual, at = found[len(found) // 2], int(rows[len(found) // 2])
            bound = verdicts.most_common(1)[0][0]
            outcome.found(f"{model}: wall", ms(usual.wall_ns / 1e9))
            outcome.found(f"{model}: device from first to last stamp", ms(usual.device_ns / 1e9))
            outcome.found(f"{model}: of that, waiting for launches at most", ms(usual.starved_ns / 1e9))
            outcome.found(f"{model}: the host launched in", ms(usual.launching_ns / 1e9))
            outcome.found(f"{model}: the host waited for the token", ms(usual.waiting_ns / 1e9))
            outcome.found(
                f"{model}: verdict",
                f"{bound.value} ({verdicts[bound]} of {len(found)} steps). {verdict_of(made.trace, at, usual).reason}",
                " or ".join(sorted(each.value for each in expected)),
                bound in expected,
            )


def graphs_with_phases(setup: Setup, outcome: Outcome) -> None:
    """Captured, compiled and eager steps have the same phases, in about the same shares; so have compiled regions."""
    _phases_of(setup, outcome, _EXECUTION)
    with without_marks():
        _phases_of(setup, outcome, {"regions": {"compile": "default"}})


def _phases_of(setup: Setup, outcome: Outcome, execution: dict[str, dict[str, Any]]) -> None:
    shares = {}
    for name, settings in execution.items():
        with rig(setup, setup.large, f"phases-{name}", outcome, detail="layer") as made:
            try:
                made.change(**settings)
            except RuntimeError as refused:
                outcome.found(name, str(refused))
                continue
            made.generate(24)  # captures and compiles for what it meets
            rows = made.generate(setup.tokens)
            phases = made.trace.steps.phases_ns[rows].sum(axis=0)
            shares[name] = {
                group: float(phases[list(each)].sum() / phases.sum()) for group, each in GROUPS.items()
            }
            layers = made.trace.steps.layers_ns[rows]
            told = bool((layers.sum(axis=2) > 0).all())
            outcome.found(f"{name}: every layer has its time", "yes" if told else "no", "yes", told)
            words = ", ".join(f"{group} {percent(share)}" for group, share in shares[name].items())
            outcome.found(f"{name}: shares", words)
            for notice in made.notices:
                outcome.found(f"{name}: notice", notice)


_EXECUTION: dict[str, dict[str, Any]] = {
    "eager": {},
    "compiled": {"compile": "default"},
    "graphs": {"kv_cache": "static", "cuda_graphs": "on"},
}


def floor_share(setup: Setup, outcome: Outcome) -> None:
    """The 8B shape in bfloat16: time a token and share of the floor, eager, compiled and captured."""
    for name, settings in _EXECUTION.items():
        with rig(setup, setup.large, f"floor-{name}", outcome, detail="step", precision="bfloat16") as made:
            try:
                made.change(**settings)
            except RuntimeError as refused:
                outcome.found(name, str(refused))
                continue
            made.generate(24)
            made.calibrate()
            rows = made.generate(setup.tokens)
            steps = made.trace.steps
            wall_ns = float(np.median(steps.wall_ns[rows]))
            outcome.found(f"{name}: a step", ms(wall_ns / 1e9))
            if not (steps.floor_ns[rows] > 0).all():
                outcome.found(f"{name}: share of the floor", "–: this machine is not calibrated")
            else:
                share = float(np.median(steps.floor_ns[rows] / steps.wall_ns[rows]))
                outcome.found(f"{name}: share of the floor", percent(share), "≤ 100 %", share <= 1.0)


def loops(setup: Setup, outcome: Outcome) -> None:
    """Our loop with layer detail against generate() of transformers, and compiled against a bare compiled loop."""
    for model, budget in ((setup.small, 0.80), (setup.large, 1.00)):
        with rig(setup, model, f"loops-{model}", outcome) as made:
            live = made.bench.live
            ids = torch.tensor([made.ids()], device=live.device)

            def theirs(count: int, live: Any = live, ids: Any = ids) -> object:
                output = live.model.generate(ids, max_new_tokens=count, min_new_tokens=count, do_sample=False)
                return output[0, -1].item()

            def turn(work: Callable[[int], object], detail: str, made: Rig = made) -> float:
                made.change(detail=detail)
                return seconds_a_token(work, setup.tokens)

            values = interleave(
                lambda: turn(theirs, "step"),
                {
                    "our loop": lambda: turn(made.loop, "layer"),
                    "with events": lambda: turn(made.generate, "layer"),
                },
                setup.rounds,
            )
            outcome.found(f"{model}: generate()", ms(statistics.median(values["baseline"])))
            for name, found in ratios(values).items():
                expected = f"≤ {budget:.2f}" if name == "our loop" else ""
                outcome.found(
                    f"{model}: {name} against generate()",
                    f"{found['ratio']:.3f} ({found['low']:.3f} – {found['high']:.3f})",
                    expected,
                    found["low"] <= budget if expected else None,
                )
    _compiled_loops(setup, outcome)


def _compiled_loops(setup: Setup, outcome: Outcome) -> None:
    """A loop as short as can be over a compiled forward on a static cache, and ours on the same compiled step."""
    with rig(setup, setup.small, "loops-compiled", outcome, detail="step", kv_cache="static") as made:
        live = made.bench.live
        bare = torch.compile(type(live.model).forward, fullgraph=True)

        def shortest(count: int) -> float:
            from transformers import StaticCache

            ids = torch.tensor([made.ids()], device=live.device)
            cache = StaticCache(live.model.config, max_cache_len=ids.shape[1] + count)
            with torch.inference_mode():
                token = (
                    live.model(input_ids=ids, past_key_values=cache, logits_to_keep=1)
                    .logits[:, -1]
                    .argmax(-1)
                )
                times = []
                for _ in range(count - 1):
                    begin = perf_counter_ns()
                    output = bare(live.model, input_ids=token[:, None], past_key_values=cache)
                    token = output.logits[:, -1].argmax(-1)
                    token.item()
                    times.append(perf_counter_ns() - begin)
            return statistics.median(times[len(times) // 2 :]) / 1e9

        try:
            made.change(compile="default")
            made.generate(24)
            rows = made.generate(setup.tokens)
            ours = float(np.median(made.trace.steps.wall_ns[rows])) / 1e9
            made.change(compile="off")
            theirs = shortest(setup.tokens)
        except RuntimeError as refused:
            outcome.found("compiled loops", str(refused).splitlines()[0])
            return
        outcome.found("bare compiled loop", ms(theirs))
        outcome.found("ours on a compiled step", f"{ms(ours)}, {ours / theirs:.3f} of it")


def lost_device(setup: Setup, outcome: Outcome) -> None:
    """A real device-side assert in the middle of a token ends the engine with its code; the next one can go on."""
    if setup.is_rehearsal:
        outcome.found("lost device", "needs a device that can be lost")
        return
    first, steps = loss.lose(setup)
    outcome.found("exit code", str(first), str(DEVICE_LOST), first == DEVICE_LOST)
    outcome.found("steps that were told before", str(steps), "≥ 4", steps >= 4)
    again = loss.goes_on(setup)
    outcome.found("tokens of the engine after it", str(again), "8", again == 8)


SCENARIOS: dict[str, Scenario] = {
    "synchronizations": synchronizations,
    "mark-cost": mark_cost,
    "overhead": overhead,
    "ledger": ledger,
    "lanes": two_lanes,
    "graphs": graphs_with_phases,
    "split": split_layers,
    "floor": floor_share,
    "loops": loops,
    "lost-device": lost_device,
}
