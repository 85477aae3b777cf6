"""Tokenizers: the one that ships with the program, and a model directory's own."""

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from engine.runtime.models.errors import ModelError, first_line

#: At least one of these makes a tokenizer; without any, transformers makes an empty one.
VOCABULARIES = (
    "tokenizer.json",
    "*.model",
    "vocab.*",
    "*.tiktoken",
    "tekken.json",
    "merges.txt",
    "*.bpe.*",
    "*_vocab*",
)


def built_in_tokenizer() -> Any:
    """The tokenizer in `resources`, of 16,384 byte-level tokens; it needs no network."""
    with as_file(files("resources") / "tokenizer") as directory:
        return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)


def read_tokenizer(name: str, directory: Path) -> Any:
    """The tokenizer of a model's directory. Raises ModelError."""
    if not any(path for pattern in VOCABULARIES for path in directory.glob(pattern)):
        raise ModelError(
            f"Model '{name}' comes without a tokenizer: put its tokenizer.json and tokenizer_config.json into"
            f" '{directory}'."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        works = len(tokenizer("a")["input_ids"]) > 0
    except ImportError as error:
        raise ModelError(
            f"The tokenizer of model '{name}' needs a package that is not installed ({first_line(error)}):"
            " install it and restart the engine.",
            repr(error),
        ) from error
    except Exception as error:  # broken files make every parser fail in its own way
        raise ModelError(_sentence(name, directory, error), repr(error)) from error
    if not works:
        raise ModelError(_sentence(name, directory, ValueError("it makes no tokens of a text")))
    return tokenizer


def _sentence(name: str, directory: Path, error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return (
            f"The tokenizer of model '{name}' wants to run its own Python code, which is refused because it could do"
            " anything: choose a model whose tokenizer is part of transformers."
        )
    return (
        f"The tokenizer of model '{name}' cannot be read ({first_line(error)}):"
        f" get the tokenizer files in '{directory}' again."
    )
