"""Finds the system libraries and fonts that a window needs and a bare Linux lacks; installs them where possible.

Run by `make` with the environment's Python. As root with apt the packages are installed without asking, otherwise the
exact command is printed. What is missing is found out by loading it, not by a list of what should be there.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

#: A library to be loaded -> the Debian packages that have it, newest name first.
OFFSCREEN = {
    "libglib-2.0.so.0": ("libglib2.0-0t64", "libglib2.0-0"),
    "libgthread-2.0.so.0": ("libglib2.0-0t64", "libglib2.0-0"),
    "libEGL.so.1": ("libegl1",),
    "libGL.so.1": ("libgl1",),
    "libdbus-1.so.3": ("libdbus-1-3",),
    "libfontconfig.so.1": ("libfontconfig1",),
    "libxkbcommon.so.0": ("libxkbcommon0",),
}
WINDOW = {
    "libxcb-cursor.so.0": ("libxcb-cursor0",),
    "libxcb-icccm.so.4": ("libxcb-icccm4",),
    "libxcb-keysyms.so.1": ("libxcb-keysyms1",),
    "libxcb-shape.so.0": ("libxcb-shape0",),
    "libxkbcommon-x11.so.0": ("libxkbcommon-x11-0",),
}
#: A language that a font must cover -> its Debian package.
FONTS = {"zh": "fonts-noto-cjk", "und-zsye": "fonts-noto-color-emoji"}
#: A program -> its Debian packages.
TEST_PROGRAMS = {"Xvfb": ("xvfb", "xauth")}


def loads(library: str) -> bool:
    """Whether the dynamic linker finds a library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def has_font(language: str) -> bool:
    """Whether some installed font covers a language; without fontconfig's tool nobody can tell, so no."""
    if shutil.which("fc-list") is None:
        return False
    found = subprocess.run(["fc-list", f":lang={language}"], capture_output=True, check=False)
    return bool(found.stdout.strip())


def known_to_apt(package: str) -> bool:
    """Whether apt offers a package under this name."""
    shown = subprocess.run(["apt-cache", "show", package], capture_output=True, check=False)
    return shown.returncode == 0


def missing_packages(for_tests: bool) -> list[str]:
    """Debian packages of what is missing here, each once."""
    libraries = OFFSCREEN | WINDOW
    wanted = [names for library, names in libraries.items() if not loads(library)]
    wanted += [(package,) for language, package in FONTS.items() if not has_font(language)]
    if any(not has_font(language) for language in FONTS) and shutil.which("fc-list") is None:
        wanted.append(("fontconfig",))
    if for_tests:
        wanted += [
            (name,)
            for program, names in TEST_PROGRAMS.items()
            if shutil.which(program) is None
            for name in names
        ]
    return sorted({_offered(names) for names in wanted})


def _offered(names: Sequence[str]) -> str:
    return next((name for name in names if known_to_apt(name)), names[-1])


def install(packages: Sequence[str]) -> bool:
    """Install packages with apt, quietly; whether that went well."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    return subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0


def main(arguments: Sequence[str]) -> int:
    """Install what is missing or say how; never fails: without these the program itself says what it lacks."""
    if not sys.platform.startswith("linux"):
        return 0
    has_apt = shutil.which("apt-get") is not None
    missing = missing_packages("--tests" in arguments)
    if missing and has_apt and os.geteuid() == 0:
        print(f"Installing system packages: {' '.join(missing)}", flush=True)
        subprocess.run(["apt-get", "update", "-qq"], stdout=subprocess.DEVNULL, check=False)
        missing = missing_packages("--tests" in arguments)  # under the names that apt knows now
        if install(missing):
            return 0
    if missing:
        command = f"sudo apt-get install {' '.join(missing)}"
        where = "On Debian and Ubuntu" if not has_apt else "Install them with"
        print(
            f"System packages for the window, Chinese text and emoji are missing. {where}: {command}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
