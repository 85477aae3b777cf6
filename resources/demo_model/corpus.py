"""The text that the demo models learn from: Python's standard library, its documentation strings, and its manual.

Both are under the Python Software Foundation licence. Versions of Python share most of their files, so text is taken by
top-level piece (a function, a class, the lines between them), each piece once. Whole modules are held out, in every
version and with their chapters of the manual, to measure the models by.
"""

import ast
import hashlib
import inspect
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Modules (and packages) that no model is trained on; their tests are left out as well.
HELD_OUT = (
    "bisect",
    "calendar",
    "cmd",
    "colorsys",
    "fractions",
    "graphlib",
    "heapq",
    "mailbox",
    "netrc",
    "queue",
    "sched",
    "shelve",
    "shlex",
    "statistics",
    "string",
    "textwrap",
    "wave",
    "webbrowser",
)
#: Not worth learning: generated tables, other people's packages, code that is wrong on purpose.
SKIPPED = re.compile(
    r"site-packages|lib2to3|__pycache__|idle_test|test_import/|badsyntax|bad_coding|encodings/(cp|mac|iso|koi)"
    r"|lib-dynload|_sysconfigdata|ensurepip|/test/(data|cjk|certdata)|xmltestdata|levenshtein"
    r"|/test_unicode|/test_ucn|/turtledemo|/config-"
)
#: Of the manual: a list of every change ever made, and pages that only list other pages.
SKIPPED_CHAPTERS = re.compile(r"changelog|contents\.rst|/index\.rst|copyright")
#: A reference in the manual's markup, as in :func:`~os.path.join`, reads better as what it names.
REFERENCE = re.compile(r":[a-z][a-z:]*:`[!~]?([^`<]+?)(?:\s*<[^>`]*>)?`")
TOPICS = "pydoc_data/topics.py"  # the language reference: prose from beginning to end
LONGEST_FILE = 400_000  # characters; what is longer is a table
LONGEST_PIECE = 12_000
SHORTEST_PIECE = 80
#: Documentation strings and comments are what a reader recognizes: they are learned twice, once alone.
SHORTEST_PROSE = 200
#: Tests repeat themselves: a share of their pieces is enough.
TEST_SHARE = 0.1
SEED = 20_261_124


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents to train on, shuffled, and documents held out."""

    train: list[str]
    held_out: dict[str, str]


def read_corpus(libraries: Sequence[Path], manual: Path | None = None) -> Corpus:
    """Gather the text of standard libraries, the newest first, and of the manual's sources (reStructuredText).

    The same directories give the same corpus.
    """
    held_out: dict[str, str] = {}
    seen: set[str] = set()
    for name, text in _files(libraries):
        if is_held_out(name) and not is_test(name):
            held_out.setdefault(name, text)
            seen.update(map(_key, split(text)))  # copies in other modules are held out, too
    random_ = random.Random(SEED)
    train: list[str] = []
    for name, text in _files(libraries):
        if not is_held_out(name):
            train += _new_documents(name, text, seen, random_)
    if manual is not None:
        train += chapters(manual)
    random_.shuffle(train)
    return Corpus(train, held_out)


def _files(libraries: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """The files worth learning: path in the library, and text."""
    for library in libraries:
        for path in sorted(library.rglob("*.py")):
            name = path.relative_to(library).as_posix()
            text = _read(path, name)
            if text is not None:
                yield name, text


def chapters(manual: Path) -> Iterator[str]:
    """The chapters of the manual, but those on modules that are held out; references as plain names."""
    for path in sorted([*manual.rglob("*.rst"), *manual.rglob("*.rst.txt")]):
        name = path.relative_to(manual).as_posix()
        if not SKIPPED_CHAPTERS.search("/" + name) and not is_held_out(name):
            yield REFERENCE.sub(r"\1", path.read_text(encoding="utf-8"))


def is_held_out(name: str) -> bool:
    """Whether a file, by its path, belongs to a module that is held out, tests one or describes it."""
    parts = [part.split(".")[0].removeprefix("test_").lstrip("_") for part in name.split("/")]
    return any(part in HELD_OUT for part in parts)


def is_test(name: str) -> bool:
    """Whether a file, by its path in the library, is one of the library's own tests."""
    parts = name.split("/")
    return any(part in ("test", "tests") for part in parts) or parts[-1].startswith("test_")


def _read(path: Path, name: str) -> str | None:
    if SKIPPED.search("/" + name):
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError):
        return None
    return text.expandtabs(4) if len(text) <= LONGEST_FILE or name == TOPICS else None


def _new_documents(name: str, text: str, seen: set[str], random_: random.Random) -> Iterator[str]:
    """The file as a document when most of it is new, else its new pieces; and its prose."""
    if name == TOPICS:
        yield from (topic for topic in _topics(text) if _is_new(topic, seen))
        return
    pieces = [piece for piece in split(text) if _is_new(piece, seen)]
    if is_test(name):
        pieces = [piece for piece in pieces if random_.random() < TEST_SHARE]
    new = "".join(pieces)
    if len(new) > 0.8 * len(text):
        yield new
    else:
        yield from (piece.strip("\n") + "\n" for piece in pieces if len(piece) >= SHORTEST_PIECE)
    if not is_test(name):
        yield from (prose for prose in documentation(text) if _is_new(prose, seen))


def _is_new(piece: str, seen: set[str]) -> bool:
    key = _key(piece)
    new = key not in seen
    seen.add(key)
    return new


def _key(piece: str) -> str:
    return hashlib.sha256(re.sub(r"\s+", " ", piece).encode()).hexdigest()[:24]


def _topics(text: str) -> Iterator[str]:
    """The language reference, a document for each of its topics."""
    assignment = next(node for node in ast.parse(text).body if isinstance(node, ast.Assign))
    topics: dict[str, str] = ast.literal_eval(assignment.value)
    yield from topics.values()


def split(text: str) -> list[str]:
    """A file as its top-level pieces; together they are the file. Raises nothing: what cannot be parsed is one."""
    lines = text.splitlines(keepends=True)
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError):
        return [text]
    begins = sorted({_first_line(node) - 1 for node in body if isinstance(node, _LARGE)} | {0})
    ends = [*begins[1:], len(lines)]
    pieces = ["".join(lines[begin:end]) for begin, end in zip(begins, ends, strict=True)]
    return [part for piece in pieces for part in _shorter(piece)]


_LARGE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _first_line(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _shorter(piece: str) -> Iterator[str]:
    """A long piece (a large class) in parts that begin where a method does, as far as that goes."""
    part = ""
    for chunk in re.split(r"(?m)^(?=    (?:async )?def )", piece):
        if part and len(part) + len(chunk) > LONGEST_PIECE:
            yield part
            part = ""
        part += chunk
    if part:
        yield part


def documentation(text: str) -> Iterator[str]:
    """The longer documentation strings of a file, each with its indentation removed."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found = ast.get_docstring(node, clean=False)
            if found and len(found) >= SHORTEST_PROSE:
                yield inspect.cleandoc(found) + "\n"
