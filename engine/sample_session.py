"""The recorded session that comes with the program, and what names a session on a command line."""

from pathlib import Path

SAMPLE = "sample"
SAMPLE_FILE = Path(__file__).resolve().parent.parent / "resources" / "sample_session" / "sample.cyclograph"
SESSION_HELP = f"a recorded session, or '{SAMPLE}' for the one that comes with the program"


def session_path(name: str) -> Path:
    """The file that is meant: "sample" is the one that comes with the program, all else the path of a file."""
    return SAMPLE_FILE if name == SAMPLE else Path(name).expanduser()
