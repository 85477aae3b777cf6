"""Where this program keeps on disk what it can make again: below the platform's directory for caches of this user."""

import os
import sys
from pathlib import Path


def user_cache() -> Path:
    """The directory; it may not exist yet."""
    home = Path.home()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(home / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(home / ".cache")
    return Path(base) / "cyclograph"
