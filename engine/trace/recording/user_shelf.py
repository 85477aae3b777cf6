"""Where sessions are kept: below the platform's directory for data of this user."""

import os
import sys
from pathlib import Path


def user_sessions() -> Path:
    """The directory; it may not exist yet."""
    home = Path.home()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(home / "Library" / "Application Support")
    else:
        base = os.environ.get("XDG_DATA_HOME") or str(home / ".local" / "share")
    return Path(base) / "cyclograph" / "sessions"
