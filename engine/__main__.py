"""The headless front end: `python -m engine run | models | settings | walk | export | replay`."""

import sys

from engine.commands import main

if __name__ == "__main__":
    sys.exit(main())
