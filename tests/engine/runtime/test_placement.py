"""A model that is split runs as it does in one piece, and what it brings along from elsewhere is measured."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from engine.runtime.anatomy import find_anatomy
from engine.runtime.clocks import StampRecorder
from engine.runtime.placement import placement_of, places_of, spread, time_crossings
from engine.runtime.probes import install
from engine.trace.ledger import Layout
from engine.trace.phases import Detail, Phase

LAYERS = 4
ON_DISK = {1, 3}
IDS = torch.arange(3, 11).view(1, -1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    directory = tmp_path_factory.mktemp("split") / "llama"
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    return directory


@pytest.fixture
def split(checkpoint: Path, tmp_path: Path) -> PreTrainedModel:
    """Two of four layers wait on disk and are read before each of their passes."""
    places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    places |= {f"model.layers.{index}": "disk" if index in ON_DISK else "cpu" for index in range(LAYERS)}
    model = AutoModelForCausalLM.from_pretrained(checkpoint, device_map=places, offload_folder=tmp_path)
    return model.eval()


def tokens(model: PreTrainedModel) -> list[int]:
    out = model.generate(
        IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=8, do_sample=False, pad_token_id=0
    )
    return out[0].tolist()


def test_where_the_layers_are(split: PreTrainedModel, checkpoint: Path) -> None:
    assert placement_of(split, find_anatomy(split)) == (("cpu", 2), ("disk", 2))
    assert places_of(split)["model.layers.1"] == "disk"
    whole = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert placement_of(whole, find_anatomy(whole)) == ()


@pytest.mark.parametrize("detail", [Detail.PHASE, Detail.LAYER, Detail.CORE])
def test_what_crosses_is_measured_and_changes_no_token(
    split: PreTrainedModel, checkpoint: Path, detail: Detail
) -> None:
    expected = tokens(AutoModelForCausalLM.from_pretrained(checkpoint))
    recorder = StampRecorder()
    assert time_crossings(split, recorder) > 0
    probes = install(split, find_anatomy(split), recorder, detail)
    assert tokens(split) == expected
    recorder.begin_step()
    with torch.inference_mode():
        split(IDS)
    codes, stamps = recorder.end_step()
    probes.remove()
    layout = Layout(recorder.names, tuple(np.frombuffer(codes, np.uint16).tolist()))
    times = np.frombuffer(stamps, np.int64)[None]
    phases = layout.phases_ns(times)[0]
    assert phases[Phase.COMMUNICATE] > 0
    assert phases.sum() == times[0, -1] - times[0, 0]
    inside = {span.name.phase for span in layout.spans(times[0]) if span.depth}
    assert Phase.COMMUNICATE in inside, "what is brought along for an attention block is told apart from it"


def test_only_what_waits_elsewhere_is_stamped(split: PreTrainedModel) -> None:
    """All of this model runs on the CPU: nothing but its layers on disk is brought along."""
    stamped = time_crossings(split, StampRecorder())
    assert stamped == sum(
        any(getattr(each, "offload", False) for each in getattr(part._hf_hook, "hooks", (part._hf_hook,)))
        for part in split.modules()
        if hasattr(part, "_hf_hook")
    )


def test_a_model_in_one_place_stamps_nothing(checkpoint: Path) -> None:
    assert time_crossings(AutoModelForCausalLM.from_pretrained(checkpoint), StampRecorder()) == 0


def test_what_fits_one_device_is_not_split(checkpoint: Path) -> None:
    whole = AutoModelForCausalLM.from_pretrained(checkpoint)
    expected = tokens(whole)
    together = spread(whole, {"cpu": 10**9})
    assert places_of(together) == {}
    assert tokens(together) == expected
