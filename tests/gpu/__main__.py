"""Runs everything that needs a GPU, prints what was found, and writes tests/gpu/REPORT.md. No Qt is needed.

python -m tests.gpu                        all scenarios on the first device
python -m tests.gpu --only ledger lanes    these; the report is printed only
python -m tests.gpu --rehearse             on the CPU with tiny models, to see that the scenarios run

Each scenario runs in a process of its own: a device that one of them loses is there again for the next.
"""

import argparse
import json
import subprocess
import sys
import traceback
from dataclasses import asdict
from pathlib import Path

import torch

from tests.gpu import report
from tests.gpu.rig import Finding, Outcome, Setup
from tests.gpu.scenarios import SCENARIOS

NO_DEVICE = "There is no GPU here that torch can use: nothing was measured. (--rehearse runs the scenarios on the CPU.)"


def main(arguments: list[str] | None = None) -> int:
    """0 where all is as expected, 1 where something is not, 2 without a device."""
    options = parser().parse_args(arguments)
    setup = setup_of(options)
    if setup is None:
        print(NO_DEVICE, file=sys.stderr)
        return 2
    if options.here:
        print(json.dumps(asdict(run(setup, options.here))))
        return 0
    outcomes = []
    for name in options.only or SCENARIOS:
        outcomes.append(run_apart(name, arguments if arguments is not None else sys.argv[1:]))
        print(report.printed(outcomes[-1]), flush=True)
    text = report.markdown(setup, outcomes)
    (setup.out / "REPORT.md").write_text(text, encoding="utf-8")
    if not setup.is_rehearsal and not options.only:
        report.PATH.write_text(text, encoding="utf-8")
        print(f"written: {report.PATH}")
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m tests.gpu", description="All that needs a GPU, in one run."
    )
    made.add_argument("--only", nargs="+", default=[], choices=list(SCENARIOS), metavar="NAME")
    made.add_argument("--device", default="", help="the first accelerator, unless another is named")
    made.add_argument("--rehearse", action="store_true", help="on the CPU, with tiny models")
    made.add_argument("--small", default="", help="a model that is bound by its launches")
    made.add_argument("--large", default="", help="a model that is bound by its bytes")
    made.add_argument("--tokens", type=int, default=128)
    made.add_argument("--rounds", type=int, default=16)
    made.add_argument("--out", type=Path, default=Path("build/gpu"), help="where traces go")
    made.add_argument("--here", choices=list(SCENARIOS), help=argparse.SUPPRESS)
    return made


def setup_of(options: argparse.Namespace) -> Setup | None:
    """Where to run; None without a device."""
    options.out.mkdir(parents=True, exist_ok=True)
    if options.rehearse:
        models = options.small or "tiny", options.large or "tiny"
        return Setup("cpu", *models, min(options.tokens, 24), min(options.rounds, 2), options.out)
    device = options.device
    if not device:
        if not torch.accelerator.is_available():
            return None
        kind = torch.accelerator.current_accelerator()
        assert kind is not None
        device = f"{kind.type}:0"
    models = options.small or "llama-30m", options.large or "llama-3.1-8b"
    return Setup(device, *models, options.tokens, options.rounds, options.out)


def run(setup: Setup, name: str) -> Outcome:
    """Run one scenario in this process; whatever goes wrong is its problem."""
    outcome = Outcome(name, judges=not setup.is_rehearsal)
    try:
        SCENARIOS[name](setup, outcome)
    except Exception as error:
        traceback.print_exc()
        outcome.problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return outcome


def run_apart(name: str, arguments: list[str]) -> Outcome:
    """Run one scenario in a process of its own."""
    command = [sys.executable, "-m", "tests.gpu", *arguments, "--here", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    last = done.stdout.strip().splitlines()[-1:] or [""]
    try:
        fields = json.loads(last[0])
    except json.JSONDecodeError:
        return Outcome(name, problem=f"its process ended with exit code {done.returncode} and said nothing")
    fields["findings"] = [Finding(**each) for each in fields["findings"]]
    return Outcome(**fields)


if __name__ == "__main__":
    sys.exit(main())
