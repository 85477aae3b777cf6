"""Files as prompts: read whole, or refused with one sentence."""

from pathlib import Path

LARGEST = 64 * 1024**2  # bytes: ten times what the longest contexts hold


def read_prompt_file(path: Path) -> str:
    """The text of a file. Raises ValueError with a sentence for people."""
    try:
        if path.is_dir():
            raise ValueError(f"'{path.name}' is a directory: drop a text file, or load a model from it.")
        size = path.stat().st_size
        if size > LARGEST:
            raise ValueError(
                f"'{path.name}' has {size / 1e6:,.0f} MB, and no model reads more than {LARGEST / 1e6:,.0f} MB at once:"
                " cut it into parts."
            )
        content = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(f"The prompt file {path} cannot be read ({reason}); check its path.") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"The prompt file {path} is not UTF-8 text; save it as UTF-8 and try again."
        ) from error
    if "\0" in text:
        raise ValueError(f"The prompt file {path} is not text: it has zero bytes; drop a text file.")
    return text
