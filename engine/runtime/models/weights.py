"""Looks at a checkpoint's safetensors files without reading their tensors: are they whole, and how large?

The format: 8 bytes with the length of a JSON header, the header, then the tensors' bytes without gaps
(https://huggingface.co/docs/safetensors). Everything in a file is input from a stranger and is checked.
"""

import json
import struct
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from engine.runtime.models.errors import IncompleteModel, ModelError, listed

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MOST_HEADER_BYTES = 100_000_000  # the limit that the safetensors library has
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")

DTYPE_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
DTYPE_WIDTHS = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}  # bytes a number


@dataclass(frozen=True, slots=True)
class Weights:
    """A checkpoint's files. `elements`: how many numbers there are in each safetensors type ("F32", "BF16", …)."""

    files: tuple[Path, ...]
    stored_bytes: int
    elements: Counter[str]

    @property
    def parameters(self) -> int:
        """Numbers in all tensors (a quantized checkpoint packs several parameters into one)."""
        return sum(self.elements.values())

    def bytes_in(self, width: int | None) -> int:
        """Memory with floating-point tensors at `width` bytes a number, others as stored; None: all as stored."""
        if width is None:
            return self.stored_bytes
        floating = sum(count for dtype, count in self.elements.items() if dtype in DTYPE_NAMES)
        stored = sum(
            count * DTYPE_WIDTHS[DTYPE_NAMES[dtype]]
            for dtype, count in self.elements.items()
            if dtype in DTYPE_NAMES
        )
        return self.stored_bytes - stored + floating * width

    @property
    def dtype(self) -> str:
        """The floating-point type that most numbers have, in torch's words; "" when there is none."""
        counts = {DTYPE_NAMES[dtype]: count for dtype, count in self.elements.items() if dtype in DTYPE_NAMES}
        return max(counts, key=lambda dtype: counts[dtype], default="")


def inspect_weights(directory: Path) -> Weights:
    """The safetensors files of a model's directory, found whole. Raises ModelError."""
    files = _files(directory)
    elements: Counter[str] = Counter()
    stored = 0
    for file in files:
        counts, length = _inspect_file(file)
        elements += counts
        stored += length
    return Weights(files, stored, elements)


def _files(directory: Path) -> tuple[Path, ...]:
    if (directory / SINGLE_FILE).is_file():
        return (directory / SINGLE_FILE,)
    if (directory / INDEX_FILE).is_file():
        return _shards(directory)
    raise _no_weights(directory)


def _shards(directory: Path) -> tuple[Path, ...]:
    index = read_json(directory / INDEX_FILE)
    names = index.get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ModelError(
            f"'{directory / INDEX_FILE}' does not say which file holds which weight:"
            " get a complete copy of the model and try again."
        )
    shards = sorted(set(names.values()))
    strange = [name for name in shards if Path(name).name != name]
    if strange:
        raise ModelError(
            f"'{directory / INDEX_FILE}' points outside of its directory ({listed(strange)}):"
            " do not use this copy of the model."
        )
    missing = [name for name in shards if not (directory / name).is_file()]
    if missing:
        raise IncompleteModel(
            f"{len(missing)} of {len(shards)} weight files are missing from '{directory}' ({listed(missing)}):"
            " finish the download and try again."
        )
    return tuple(directory / name for name in shards)


def _no_weights(directory: Path) -> ModelError:
    pickles = sorted({path.name for pattern in PICKLES for path in directory.glob(pattern)})
    if pickles:
        return ModelError(
            f"'{directory}' has its weights only as pickle files ({listed(pickles)}), which can run code when they are"
            " read, so they are refused: convert them once where you trust them, with"
            " AutoModelForCausalLM.from_pretrained(…).save_pretrained(…) of transformers, which writes safetensors."
        )
    gguf = sorted(path.name for path in directory.glob("*.gguf"))
    if gguf:
        return ModelError(
            f"'{directory}' has its weights as GGUF ({listed(gguf)}), which is not supported:"
            " use the model's original safetensors files."
        )
    others = sorted(path.name for path in directory.glob("*.safetensors"))
    hint = f" (but {listed(others)})" if others else ""
    return IncompleteModel(
        f"'{directory}' has a configuration but no {SINGLE_FILE} or {INDEX_FILE}{hint}:"
        " get the model's weights and put them there."
    )


def _inspect_file(file: Path) -> tuple[Counter[str], int]:
    """Numbers by type, and bytes of tensors, of one file whose header fits its size."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if len(start) < 8 or length > min(MOST_HEADER_BYTES, size - 8):
                raise _damaged(file, f"{size:,} bytes, of which the header claims {length:,}")
            header = json.loads(stream.read(length))
        return _count(file, header, size - 8 - length)
    except OSError as error:
        raise unreadable(file, error) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(file, str(error)) from error


def _count(file: Path, header: dict[str, Any], available: int) -> tuple[Counter[str], int]:
    elements: Counter[str] = Counter()
    end = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        elements[tensor["dtype"]] += prod(tensor["shape"])
        end = max(end, tensor["data_offsets"][1])
    if end != available:
        raise _damaged(file, f"its tensors take {end:,} bytes, but the file has {available:,} for them")
    return elements, end


def _damaged(file: Path, details: str) -> ModelError:
    return ModelError(
        f"'{file}' is truncated or damaged ({details}): get this file again."
        if "bytes" in details
        else f"'{file}' is damaged, its header cannot be read: get this file again.",
        details,
    )


def unreadable(path: Path, error: OSError) -> ModelError:
    """What a file or directory says that the system does not let us read."""
    reason = error.strerror or type(error).__name__
    return ModelError(
        f"'{path}' cannot be read ({reason}): check its permissions and try again.", repr(error)
    )


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises ModelError when it cannot be read, or is not one."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(file, error) from error
    except ValueError as error:
        raise ModelError(
            f"'{file}' is not valid JSON ({error}): mend it or get the file again.", repr(error)
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"'{file}' is JSON but not an object: mend it or get the file again.")
    return content
