"""The headless front end: `python -m engine run | models | settings | walk | export` (and `serve`, for a window)."""

import sys

from engine.commands import main

if __name__ == "__main__":
    sys.exit(main())
