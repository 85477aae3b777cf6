"""Where this program keeps what is of this user: below the platform's directories for data and for caches."""

import os
import sys
from pathlib import Path


def user_cache() -> Path:
    """For what can be made again; it may not exist yet."""
    return _below("Library/Caches", "XDG_CACHE_HOME", ".cache")


def user_sessions() -> Path:
    """For recorded sessions; it may not exist yet."""
    return _below("Library/Application Support", "XDG_DATA_HOME", ".local/share") / "sessions"


def _below(apple: str, variable: str, otherwise: str) -> Path:
    """The program's directory: on Apple's systems below this of the home, else where the variable says, if it does."""
    home = Path.home()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = home / apple
    else:
        base = os.environ.get(variable) or home / otherwise
    return Path(base) / "cyclograph"
