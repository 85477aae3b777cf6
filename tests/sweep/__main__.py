"""Prints how many of the architectures in transformers are built, run, complete in phases and equal to generate().

python -m tests.sweep                    all of them, some minutes
python -m tests.sweep --only llama t5    these
python -m tests.sweep --json FILE        the outcomes, also as JSON
"""

import argparse
import json
import sys
from pathlib import Path

from tests.sweep.isolation import examine_all
from tests.sweep.sweep import as_json, chosen, report, surprise


def main() -> int:
    """Sweep and print; 1 when something differs from the known exceptions."""
    parser = argparse.ArgumentParser(description="Every architecture of transformers, built small and run.")
    parser.add_argument("--only", nargs="+", default=[], metavar="TYPE", help="these model types only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes here, too")
    options = parser.parse_args()
    try:
        types = chosen(options.only)
    except ValueError as error:
        parser.error(str(error))
    outcomes = []
    for outcome in examine_all(types):
        outcomes.append(outcome)
        if sys.stderr.isatty():
            print(
                f"\r\033[K{len(outcomes)} of {len(types)}: {outcome.model_type}",
                end="",
                file=sys.stderr,
                flush=True,
            )
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print(report(outcomes))
    surprises = [f"  {o.model_type} ({o.family.value}): {words}" for o in outcomes if (words := surprise(o))]
    if surprises:
        print("\n".join(["\ndifferent from the known exceptions:", *surprises]))
    if options.json:
        options.json.write_text(json.dumps([as_json(outcome) for outcome in outcomes], indent=1))
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
