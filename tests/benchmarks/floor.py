"""How near the steps of the built-in models come to their floor, and whether one of them is below it.

The machine is calibrated first; then each model generates under each of some settings, at detail level layer. A step
below its floor means that the calibration, or the count of what a step has to do, is wrong. On a core that others use
too, shares of processor time (one thread) say more than those of wall time; a step that took less of it than its floor
is counted as well, which is stricter.
"""

import argparse
import statistics
from time import perf_counter_ns, process_time_ns

import torch

from engine.protocol import Calibrated, Configuration, Event, Generate, Load, ModelLoaded, Prompt
from engine.runtime.starting import start
from engine.runtime.workbench import Workbench
from engine.trace.cycle_model import lines
from engine.trace.metrics import summary
from engine.trace.store import Trace
from tests.benchmarks.common import report

ARMS: dict[str, Configuration] = {
    "float32": (),
    "bfloat16": (("precision", "bfloat16"),),
    "int8": (("quantization", "int8"),),
    "int4": (("quantization", "int4"),),
    "int8 dynamic": (("quantization", "int8_dynamic"),),
    "half of the MLP": (("mlp_pruning", 50),),
    "half of the heads": (("head_pruning", 50),),
    "static cache": (("kv_cache", "static"),),
    "batch of 4": (("batch", 4),),
    "lookup": (("speculation", "lookup"),),
}
MODELS = ["demo", "tiny", "llama-30m", "gpt2-124m"]
PROMPT = 'def total(path):\n    """Read a file of numbers, one a line, and give back their sum."""\n'
_LONGEST = 900  # tokens of a generation


def main() -> None:
    """Print a JSON line for each model and setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--steps", type=int, default=300, help="of each setting (default: %(default)s)")
    parser.add_argument("--cycle", action="store_true", help="also what the cycle model says")
    options = parser.parse_args()
    for model in options.models:
        for arm in options.arms:
            measure(model, arm, options.steps, options.cycle)


def measure(model: str, arm: str, steps: int, cycle: bool) -> None:
    """Calibrate, run one model under one setting, report."""
    traces = [Trace()]

    def take(event: Event) -> None:
        if isinstance(event, ModelLoaded):
            traces[0] = Trace(event)
        traces[0].append(event)

    bench = Workbench(Load(model, "cpu", ARMS[arm]), "process", take, lambda: None)
    refused = [change.reason for mark in traces[0].marks for change in mark.event.changes if change.reason]
    if refused:
        report("floor", model=model, arm=arm, not_possible=refused[0])
        bench.close()
        return
    bench.floors.calibrate(lambda: False)
    trace, used_ns = traces[0], []
    while len(trace.steps) < steps:
        wanted = min(_LONGEST, steps - len(trace.steps), bench.live.facts.context_limit - 100)
        command = Generate(Prompt(PROMPT), max(2, wanted), stop_at_end_token=False)
        run, reason = start(bench, command, perf_counter_ns()), ""
        while not reason:
            begin_ns = process_time_ns()
            reason = run.step(held=False)
            used_ns.append(process_time_ns() - begin_ns)
        run.end(reason)
    bench.close()
    floors, walls = trace.steps.floor_ns, trace.steps.wall_ns
    written = trace.steps.prompt_tokens == 0
    told: Calibrated = list(trace.calibrations.values())[-1]
    measured = summary(trace)
    report(
        "floor",
        model=model,
        arm=arm,
        threads=torch.get_num_threads(),
        steps=len(walls),
        below_their_floor=int((walls < floors).sum()),
        below_in_processor_time=int((floors > used_ns).sum()),
        moved_mb=round(float(statistics.median(trace.steps.moved_bytes[written])) / 1e6, 1),
        floor_ms=round(statistics.median(floors[written]) / 1e6, 3),
        wall_ms=round(statistics.median(walls[written]) / 1e6, 3),
        share_of_floor=round(measured["floor_share"].value or 0.0, 3),
        share_in_processor_time=round(float(statistics.median((floors / used_ns)[written])), 3),
        largest_share=round(float((floors / walls).max()), 3),
        mbu=round(measured["mbu"].value or 0.0, 3),
        bandwidth_gb_s=round(told.calibration.memory_bandwidth / 1e9, 1),
        calibrated_s=round(told.calibration.took_ns / 1e9, 2),
        spread=round(told.calibration.spread, 3),
        remark=told.calibration.remark,
    )
    if cycle:
        print("\n".join(lines(trace)), flush=True)


if __name__ == "__main__":
    main()
