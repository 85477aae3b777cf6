"""Settings that a kind of model, or a place, has no use for are refused with the reason."""

from dataclasses import replace

import pytest

from engine.protocol import Family
from engine.runtime.settings import ALL
from engine.runtime.settings.suited import suited
from tests.engine.runtime.settings.small_live import small_live


@pytest.mark.parametrize(
    ("family", "placement", "refused"),
    [
        (Family.DECODER, (), set()),
        (
            Family.DECODER,
            (("cuda:0", 1), ("cpu", 1)),
            {
                *("precision", "quantization", "mlp_pruning", "head_pruning", "layer_skipping", "sparsity"),
                "kv_cache",
            },
        ),
        (
            Family.ENCODER,
            (),
            {
                *(
                    "kv_cache",
                    "kv_window",
                    "prefill_chunk",
                    "compile",
                    "cuda_graphs",
                    "read_back",
                    "decoding",
                    "temperature",
                    "top_k",
                    "top_p",
                    "min_p",
                ),
                *(
                    "repetition_penalty",
                    "seed",
                    "beams",
                    "speculation",
                    "draft_model",
                    "draft_length",
                    "batch",
                    "top_p_method",
                    "sampling_place",
                ),
            },
        ),
    ],
)
def test_only_what_is_of_no_use_is_refused(
    family: Family, placement: tuple[tuple[str, int], ...], refused: set[str]
) -> None:
    live = small_live()
    model = replace(live.facts, family=family, placement=placement)
    facts = [setting.probe(live) for setting in ALL]
    found = {s.key for f in facts for s in (suited(f, model),) if s.reason and s.reason != f.reason}
    assert found == refused
