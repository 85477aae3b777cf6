"""Measures the demo models on the text that neither was trained on: `python -m resources.demo_model.evaluate`.

Prints bits per byte of both, and how many of the tokens that the draft model proposes the large one accepts in greedy
speculation. `--write` keeps the figures in figures.json and in the table of the model card.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from resources.demo_model.data import held_out_documents, held_out_text, plain_ids
from resources.demo_model.settings import CONTEXT

HERE = Path(__file__).parent
FIGURES_FILE = HERE / "figures.json"
CARD = HERE / "README.md"
DRAFT_LENGTH = 4
END_ID = 0
PROMPTS = 32
PROMPT_TOKENS = 96
NEW_TOKENS = 96
BEGIN_OF_TABLE, END_OF_TABLE = "<!-- figures: written by evaluate.py -->\n", "\n<!-- end of figures -->"
#: Windows of text and prompts that a test measures, in seconds: `evaluate(*PART)`.
PART = (6, 12)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What became of the tokens that a draft model proposed."""

    drafted: int
    accepted: int
    steps: int

    @property
    def share(self) -> float:
        """Accepted of drafted tokens."""
        return self.accepted / self.drafted


@dataclass(frozen=True, slots=True)
class Figures:
    """What the model card says. `tokens_per_step`: of the large model, drafted ones among them."""

    large_parameters: int
    draft_parameters: int
    held_out_bytes: int
    large_bits_per_byte: float
    draft_bits_per_byte: float
    draft_length: int
    drafted: int
    accepted: int
    acceptance: float
    tokens_per_step: float


def load(name: str) -> Any:
    """A demo model ("large" or "draft"), in float32."""
    model: Any = AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32)
    return model.eval()


def held_out_prompts(tokenizer: Any, count: int) -> list[list[int]]:
    """Stretches of held-out documents, evenly spread: (count) lists of PROMPT_TOKENS ids."""
    ids = [plain_ids(tokenizer, text) for text in held_out_documents().values()]
    long = [document for document in ids if len(document) >= 2 * PROMPT_TOKENS]
    places = [(long[n % len(long)], n // len(long)) for n in range(count)]
    rounds = 1 + (count - 1) // len(long)
    begins = [(d, int((len(d) - PROMPT_TOKENS) * turn / rounds)) for d, turn in places]
    return [document[begin : begin + PROMPT_TOKENS] for document, begin in begins]


def speculate(large: Any, draft: Any, prompts: Sequence[list[int]], new_tokens: int) -> Acceptance:
    """Greedy speculation at DRAFT_LENGTH over all prompts, which have the same length.

    What greedy speculation writes is what the large model writes alone. So its text is made first; a proposal is
    accepted as far as the draft model would go on with that text, which one pass over the text tells for all places.
    """
    drafted = accepted = steps = 0
    for prompt, text in zip(prompts, _continue(large, prompts, new_tokens), strict=True):
        right = _foreseen(draft, prompt, text)
        place = 0
        while place + DRAFT_LENGTH <= len(text):
            agreed = [*right[place : place + DRAFT_LENGTH], False].index(False)
            drafted += DRAFT_LENGTH
            accepted += agreed
            steps += 1
            place += agreed + 1  # and one token that the large model adds itself
    return Acceptance(drafted, accepted, steps)


@torch.inference_mode()
def _foreseen(draft: Any, prompt: Sequence[int], text: Sequence[int]) -> list[bool]:
    """Of each token of a text after its prompt, whether the draft model finds it likeliest."""
    ids = torch.tensor([[*prompt, *text]])[:, -CONTEXT:]
    likeliest = draft(input_ids=ids[:, :-1], use_cache=False).logits[0, -len(text) :].argmax(-1)
    found: list[bool] = (likeliest == ids[0, -len(text) :]).tolist()
    return found


@torch.inference_mode()
def _continue(model: Any, rows: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """What a model writes greedily after rows of the same length: `count` ids each, fewer where END is the last."""
    if not rows:
        return []
    ids = torch.tensor(rows)[:, -(CONTEXT - count) :]
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        do_sample=False,
        repetition_penalty=1.0,
    )
    return [_to_end(row) for row in output[:, ids.shape[1] :].tolist()]


def _to_end(ids: list[int]) -> list[int]:
    return ids[: ids.index(END_ID) + 1] if END_ID in ids else ids


def evaluate(windows: int | None = None, prompts: int = PROMPTS) -> Figures:
    """All figures; of the first `windows` windows of the held-out text only, where that is given."""
    tokenizer = AutoTokenizer.from_pretrained(HERE / "large")
    large, draft = load("large"), load("draft")
    text = held_out_text(tokenizer)
    found = speculate(large, draft, held_out_prompts(tokenizer, prompts), NEW_TOKENS)
    return Figures(
        large_parameters=sum(p.numel() for p in large.parameters()),
        draft_parameters=sum(p.numel() for p in draft.parameters()),
        held_out_bytes=text.size,
        large_bits_per_byte=round(text.bits_per_byte(large, windows), 4),
        draft_bits_per_byte=round(text.bits_per_byte(draft, windows), 4),
        draft_length=DRAFT_LENGTH,
        drafted=found.drafted,
        accepted=found.accepted,
        acceptance=round(found.share, 4),
        tokens_per_step=round((found.accepted + found.steps) / found.steps, 3),
    )


def card_table(figures: Figures, log: Sequence[dict[str, Any]]) -> str:
    """The figures as the model card shows them. `log`: the rows of training.jsonl, of both models."""
    last = {row["model"]: row for row in log}
    large, draft = last["large"], last["draft"]
    return f"""
| | large | draft |
|---|---|---|
| parameters | {figures.large_parameters:,} | {figures.draft_parameters:,} |
| trained on, tokens | {large["tokens"]:,} | {draft["tokens"]:,} |
| trained for, minutes | {large["seconds"] / 60:.0f} | {draft["seconds"] / 60:.0f} |
| held-out bits per byte | {figures.large_bits_per_byte:.3f} | {figures.draft_bits_per_byte:.3f} |

Held-out text: {figures.held_out_bytes:,} bytes. Greedy speculation with {figures.draft_length} drafted tokens a step:
the large model accepts {figures.accepted:,} of {figures.drafted:,} drafted tokens ({figures.acceptance:.1%}), which
makes {figures.tokens_per_step:.2f} tokens for each of its steps.
"""


def write(whole: Figures, part: Figures) -> None:
    """Keep the figures in figures.json, and in the card between its two marks."""
    FIGURES_FILE.write_text(json.dumps({"whole": asdict(whole), "part": asdict(part)}, indent=2) + "\n")
    log = [json.loads(row) for row in (HERE / "training.jsonl").read_text().splitlines()]
    before, rest = CARD.read_text().split(BEGIN_OF_TABLE)
    _, after = rest.split(END_OF_TABLE)
    CARD.write_text(before + BEGIN_OF_TABLE + card_table(whole, log) + END_OF_TABLE + after)


def main() -> None:
    """Print the figures, and keep them with --write."""
    parser = argparse.ArgumentParser(description="Measures the demo models on held-out text.")
    parser.add_argument(
        "--write", action="store_true", help="keep the figures in figures.json and in the card"
    )
    options = parser.parse_args()
    whole = evaluate()
    print(json.dumps(asdict(whole), indent=2))
    if options.write:
        write(whole, evaluate(*PART))


if __name__ == "__main__":
    main()
