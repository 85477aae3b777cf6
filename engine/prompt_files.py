"""Files and standard input as prompts: read whole, or refused with one sentence. Both front ends read them here."""

import sys
from pathlib import Path

LARGEST = 64 * 1024**2  # bytes: ten times what the longest contexts hold


def prompt_text(given: str) -> str:
    """A prompt as the command line takes it: the text, the file that @FILE names, or with @- what is read there.

    Raises ValueError.
    """
    if given == "@-":
        return _text(sys.stdin.buffer.read(LARGEST + 1), "that was read")
    return read_prompt_file(Path(given[1:]).expanduser()) if given.startswith("@") else given


def read_prompt_file(path: Path) -> str:
    """The text of a file. Raises ValueError with a sentence for people."""
    return _text(_content(path), f"file {path}")


def _text(content: bytes, which: str) -> str:
    if len(content) > LARGEST:
        raise ValueError(
            f"The prompt {which} has more than {LARGEST >> 20} MiB, and no model reads so much at once:"
            " cut it into parts."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"The prompt {which} is not UTF-8 text; save it as UTF-8 and try again.") from error
    if "\0" in text:
        raise ValueError(f"The prompt {which} is not text: it has zero bytes; choose a text file.")
    return text


def _content(path: Path) -> bytes:
    if path.is_dir():
        raise ValueError(f"'{path}' is a directory: choose a text file, or load it as a model.")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)  # a pipe has no size to be asked for
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(f"The prompt file {path} cannot be read ({reason}); check its path.") from error
    return content
