"""The headless front end: `python -m engine run | models | settings | walk | export | compare | replay`."""

import sys

from engine.commands import main

if __name__ == "__main__":
    sys.exit(main())
