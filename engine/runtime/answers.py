"""How an encoder–decoder begins its answer, and the rules that its tokens follow: what `generate()` would do.

The tokens to start from, the language or end that is forced, words that are never said, n-grams that are not repeated:
checkpoints bring all that in their generation_config. The only place that asks transformers' private functions for it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessorList

from engine.runtime.live import LiveModel
from engine.runtime.sampling import Rows


@dataclass(frozen=True)
class Answer:
    """`start`: ids that the decoder begins with, no text. `limit`: the most ids that it can hold, those among them."""

    start: list[int]
    limit: int
    rules: LogitsProcessorList

    def scores(self, logits: torch.Tensor, rows: Rows) -> torch.Tensor:
        """Logits (rows, vocabulary) after the rules, of which most models have none. `rows`: the decoder's ids."""
        if not self.rules:
            return logits
        seen: Any = torch.as_tensor(rows, device=logits.device)
        scores: torch.Tensor = self.rules(seen, logits.to(torch.float32, copy=True))
        return scores


def prepare_answer(live: LiveModel, prompt_ids: list[int], max_new_tokens: int) -> Answer:
    """The answer to a prompt, before its first token. Raises ValueError where the model does not say how it begins."""
    model: Any = live.model
    config, _ = model._prepare_generation_config(None, do_sample=False, num_beams=1)
    model._prepare_special_tokens(config, device=live.device)
    start, _ = model._prepare_decoder_input_ids_for_generation(
        batch_size=1,
        model_input_name="input_ids",
        model_kwargs={},
        decoder_start_token_id=config._decoder_start_token_tensor,
        device=live.device,
    )
    config.max_length = start.shape[1] + max_new_tokens
    rules = model._get_logits_processor(
        generation_config=config,
        input_ids_seq_length=start.shape[1],
        encoder_input_ids=torch.tensor([prompt_ids], device=live.device),
        device=live.device,
    )
    return Answer(start[0].tolist(), answer_context(live), rules)


def answer_context(live: LiveModel) -> int:
    """The most tokens that a decoder holds; where an encoder's and a decoder's context differ (LED), its own."""
    own = getattr(live.model.config, "max_decoder_position_embeddings", None)
    return own if isinstance(own, int) else live.facts.context_limit
