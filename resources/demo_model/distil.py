"""What a draft model learns from: the large model's whole distribution, also on text that the large model writes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from resources.demo_model.data import Text
from resources.demo_model.settings import SEED

Forward = Callable[..., Any]
Loss = Callable[[Forward, torch.Tensor], torch.Tensor]

PROMPT_TOKENS, WRITTEN_TOKENS = 48, 208
ROWS = 96  # sequences that are written together
#: A draft model serves greedy decoding first, but must know what lies beside it.
TEMPERATURES = (0.0, 0.0, 0.5, 0.8)


def distillation_loss(teacher: Any) -> Loss:
    """How far a model's distribution of the next token is from the teacher's: mean KL divergence, nats."""

    def loss(model: Forward, ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = functional.log_softmax(
                teacher(input_ids=ids[:, :-1], use_cache=False).logits, -1
            ).flatten(0, 1)
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        found = functional.log_softmax(logits, -1).flatten(0, 1)
        return functional.kl_div(found, wanted, reduction="batchmean", log_target=True)

    return loss


def with_written(teacher: Any, text: Text, work: Path, count: int) -> npt.NDArray[np.uint16]:
    """The text, and between its stretches `count` tokens that the large model wrote; kept in `work` once made."""
    kept = work / "written.npy"
    if not kept.exists():
        np.save(kept, _write(teacher, text, count))
    written = np.load(kept)
    pieces = -(-len(written) // 10_000)
    return np.concatenate(
        [
            part
            for own, other in zip(
                np.array_split(text.ids[: len(written)], pieces), np.array_split(written, pieces), strict=True
            )
            for part in (own, other)
        ]
    )


@torch.inference_mode()
def _write(teacher: Any, text: Text, count: int) -> npt.NDArray[np.uint16]:
    """What the teacher makes of beginnings out of the text: about `count` ids, each sequence after an END token."""
    torch.manual_seed(SEED)
    generator = np.random.default_rng(SEED)
    rows: list[npt.NDArray[np.uint16]] = []
    while sum(map(len, rows)) < count:
        temperature = TEMPERATURES[len(rows) // ROWS % len(TEMPERATURES)]
        begins = generator.integers(0, len(text.ids) - PROMPT_TOKENS, ROWS)
        prompts = np.stack([text.ids[begin : begin + PROMPT_TOKENS] for begin in begins]).astype(np.int64)
        ids = torch.from_numpy(prompts)
        how = (
            {"do_sample": True, "temperature": temperature, "top_k": 0}
            if temperature
            else {"do_sample": False}
        )
        output = teacher.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=WRITTEN_TOKENS,
            min_new_tokens=WRITTEN_TOKENS,
            **how,
        )
        rows += [np.array([0, *row], np.uint16) for row in output.tolist()]
    return np.concatenate(rows)
