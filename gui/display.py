"""Whether a window can be shown here: asked before Qt is started, since Qt aborts the program where none can."""

import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path

#: Debian and Ubuntu packages that Qt's wheels need for a window.
PACKAGES = (
    "libglib2.0-0 libegl1 libgl1 libdbus-1-3 libfontconfig1 libxkbcommon0 libxcb-cursor0 libxcb-icccm4"
    " libxcb-keysyms1 libxcb-shape0 libxkbcommon-x11-0"
)
INSTALL = f"sudo apt-get install -y {PACKAGES}"


def missing_qt(error: ImportError) -> str:
    """What to say where Qt cannot be imported."""
    if "No module named" in str(error):
        return f"The window needs PySide6 and pyqtgraph ({error}): run `python -m pip install -e .` in the project."
    return f"Qt's system libraries are missing ({error}): run `{INSTALL}`."


def display_problem() -> str:
    """Why no window can be shown, in one sentence; "" where one can."""
    if not sys.platform.startswith("linux") or os.environ.get("QT_QPA_PLATFORM"):
        return ""
    if _wayland():
        return ""
    if not os.environ.get("DISPLAY"):
        return "There is no display here (neither DISPLAY nor WAYLAND_DISPLAY is set)."
    return _x11_problem()


def _wayland() -> bool:
    name = os.environ.get("WAYLAND_DISPLAY")
    if not name or not list(_platforms().glob("libqwayland*")):
        return False
    return (Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent")) / name).is_socket()


def _platforms() -> Path:
    spec = find_spec("PySide6")
    root = Path(spec.origin).parent if spec and spec.origin else Path("/nonexistent")
    return root / "Qt" / "plugins" / "platforms"


def _x11_problem() -> str:
    """Load Qt's plugin and connect as it would."""
    plugin = _platforms() / "libqxcb.so"
    try:
        if plugin.exists():
            ctypes.CDLL(str(plugin))
        xcb = ctypes.CDLL("libxcb.so.1")
    except OSError as error:
        return f"Qt cannot open a window, since a library is missing ({error}): run `{INSTALL}`."
    xcb.xcb_connect.restype = ctypes.c_void_p
    xcb.xcb_connection_has_error.argtypes = [ctypes.c_void_p]
    xcb.xcb_disconnect.argtypes = [ctypes.c_void_p]
    connection = xcb.xcb_connect(None, None)
    failed = bool(xcb.xcb_connection_has_error(connection))
    xcb.xcb_disconnect(connection)
    return f"The display {os.environ['DISPLAY']} does not answer." if failed else ""
