"""The report of all scenarios, as Markdown, with date and device; without a device it says so plainly."""

import datetime
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from tests.gpu.rig import Outcome, Setup

PATH = Path(__file__).with_name("REPORT.md")
_HEAD = "# What was measured on a GPU\n\nWritten by `python -m tests.gpu`, which runs all scenarios of `tests/gpu`.\n"


def device_line(device: str) -> str:
    """The device and what drives it."""
    if device == "cpu":
        return (
            f"{platform.processor() or platform.machine()} (a rehearsal on the CPU: nothing here is of a GPU)"
        )
    place = torch.device(device)
    name = torch.get_device_module(place).get_device_name(place)
    built = torch.version.cuda or torch.version.hip or ""
    return f"{name}, torch {torch.__version__}" + (f", built for {built}" if built else "")


def markdown(setup: Setup, outcomes: Sequence[Outcome]) -> str:
    """The whole report."""
    today = datetime.date.today().isoformat()
    lines = [_HEAD, f"- date: {today}", f"- device: {device_line(setup.device)}"]
    lines += [f"- models: {setup.small} and {setup.large} (random weights), {setup.tokens} tokens", ""]
    for outcome in outcomes:
        lines += [f"## {outcome.scenario}", ""]
        if outcome.problem:
            lines += [f"**Not finished:** {outcome.problem}", ""]
        if outcome.findings:
            lines += ["| what | measured | expected | |", "| --- | --- | --- | --- |"]
        for finding in outcome.findings:
            verdict = {True: "met", False: "**not met**", None: ""}[finding.is_met]
            lines.append(f"| {finding.name} | {finding.value} | {finding.expected} | {verdict} |")
        if outcome.traces:
            lines += ["", "Traces: " + ", ".join(f"`{name}`" for name in outcome.traces)]
        lines.append("")
    return "\n".join(lines)


def nothing_measured() -> str:
    """The report of a machine without a GPU."""
    return (
        f"{_HEAD}\n**Not measured yet.** No machine with a GPU was at hand: nothing of what this file is to hold"
        " has been measured, and no figure in the project stands for a GPU. What is built for one (device clocks,"
        " lanes, graphs with phases, replacing an engine whose device failed) is tested against a device that is not"
        " there (`tests/engine/runtime/fake_device.py`), and by rehearsing the scenarios on the CPU.\n\n"
        "On a machine with a GPU:\n\n```\npython -m tests.gpu\n```\n\nprints each scenario as it is done, leaves a"
        " trace of each as JSON lines in `build/gpu/`, and replaces this file: overhead by level of detail, the ledger,"
        " the two lanes and their verdicts, captured and compiled steps with their phases, the share of the floor of an"
        " 8B shape in bfloat16 (eager, compiled, captured), our loop against `generate()` and against a bare compiled"
        " one, how often a step synchronizes, what a mark costs, and an engine that loses its device.\n"
    )


def printed(outcome: Outcome) -> str:
    """An outcome as text."""
    lines = [f"--- {outcome.scenario}{'' if outcome.is_good else '   <-- look here'}"]
    if outcome.problem:
        lines.append(f"    not finished: {outcome.problem}")
    for finding in outcome.findings:
        verdict = {True: "  (met)", False: "  (NOT met)", None: ""}[finding.is_met]
        expected = f"   expected {finding.expected}" if finding.expected else ""
        lines.append(f"    {finding.name}: {finding.value}{expected}{verdict}")
    return "\n".join(lines)
