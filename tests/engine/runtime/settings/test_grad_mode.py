"""Autograd modes: with every cache and strategy the tokens are the same, and no graph outlives its step."""

from itertools import product
from typing import Any

import pytest
import torch

from engine.protocol import SettingValue
from engine.runtime.settings.conflicts import CONFLICTS
from tests.engine.runtime.decoding import decode, ready
from tests.engine.runtime.settings.small_live import begin, generate, setting, small_live
from tests.engine.runtime.small_models import prompt_ids

TOKENS = 24
TOGETHER: list[dict[str, SettingValue]] = [{"batch": 3}, {"beams": 3}]


@pytest.mark.parametrize("kind", ["dynamic", "static", "quantized", "sliding"])
@pytest.mark.parametrize("mode", ["no_grad", "grad"])
def test_the_mode_changes_in_mid_generation_with_every_kind_of_cache(kind: str, mode: str) -> None:
    live = small_live("llama")
    live.kv_window = 16
    expected = generate(live, 14, {0: {"kv_cache": kind}})
    live = small_live("llama")
    live.kv_window = 16
    changes = {0: {"kv_cache": kind}, 4: {"grad_mode": mode}, 10: {"grad_mode": "inference"}}
    assert generate(live, 14, changes) == expected


@pytest.mark.parametrize("together", TOGETHER)
@pytest.mark.parametrize("kind", ["none", "dynamic", "static", "quantized"])
def test_batches_and_beams_go_on_with_gradients(kind: str, together: dict[str, SettingValue]) -> None:
    alone: dict[str, SettingValue] = {"batch": 1, "beams": 1}
    begins: dict[str, SettingValue] = {"kv_cache": kind}
    plain: dict[int, dict[str, SettingValue]] = {0: begins, 2: together, 10: alone, 14: together}
    modes: dict[int, str] = {0: "grad", 4: "inference", 6: "grad", 12: "no_grad", 13: "grad", 16: "inference"}
    changes = {
        at: plain.get(at, {}) | ({"grad_mode": modes[at]} if at in modes else {}) for at in {*plain, *modes}
    }
    expected = decode(ready("llama"), TOKENS, plain).by_sequence
    assert decode(ready("llama"), TOKENS, dict(sorted(changes.items()))).by_sequence == expected


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_other_weights_and_proposals_go_on_with_gradients(family: str) -> None:
    plain: dict[int, dict[str, SettingValue]] = {
        3: {"precision": "bfloat16"}, 5: {"precision": "float32"}, 7: {"head_pruning": 50}, 9: {"head_pruning": 0},
        10: {"speculation": "draft"}, 11: {"speculation": "exit"}, 12: {"speculation": "off"},
    }  # fmt: skip
    expected = decode(ready(family), TOKENS, plain).tokens
    assert decode(ready(family), TOKENS, {0: {"grad_mode": "grad"}, **plain}).tokens == expected


def test_the_forward_pass_records_a_graph_that_goes_with_its_output() -> None:
    live = small_live("llama")
    live.model.requires_grad_(False)  # as loading leaves it
    setting("grad_mode").apply(live, "grad")
    begin(live)
    context = live.context
    assert context is not None
    recorded: list[Any] = []
    live.model.lm_head.register_forward_hook(lambda *call: recorded.append(call[2].grad_fn))
    with live.forward_mode():
        arguments = {"input_ids": prompt_ids(4), "past_key_values": context.cache, "use_cache": True}
        output = live.run(live.model, 1, arguments)
    assert recorded[0] is not None
    assert not output.logits.requires_grad
    assert context.cache is not None
    assert all(layer.keys.grad_fn is None and not layer.keys.requires_grad for layer in context.cache.layers)
    setting("grad_mode").apply(live, "inference")
    assert not any(parameter.requires_grad for parameter in live.model.parameters())


def test_a_state_that_the_model_hands_back_is_cut_from_its_graph() -> None:
    live = small_live("rwkv")
    changes: dict[int, dict[str, SettingValue]] = {0: {"grad_mode": "grad"}}
    assert generate(live, 6, changes) == generate(small_live("rwkv"), 6)
    assert live.context is not None
    states: Any = live.context.cache
    assert states
    assert not any(state.requires_grad for state in states)


def test_parameters_that_quantized_products_stand_in_for_record_when_they_are_back() -> None:
    live = small_live("llama")
    live.model.requires_grad_(False)
    setting("quantization").apply(live, "int8")
    setting("grad_mode").apply(live, "grad")
    setting("quantization").apply(live, "none")
    assert all(parameter.requires_grad for parameter in live.model.parameters())
    setting("grad_mode").apply(live, "inference")
    assert not any(parameter.requires_grad for parameter in live.model.parameters())


@pytest.mark.parametrize(
    ("key", "values"),
    [("quantization", ("int8", "int4", "int8_dynamic", "float8")), ("attention", ("flex",))],
)
def test_what_has_no_derivative_is_in_the_table(key: str, values: tuple[str, ...]) -> None:
    def reasons(mode: str, value: str) -> list[str]:
        return [each.reason for each in CONFLICTS if each.holds({"grad_mode": mode, key: value})]

    for mode, value in product(("inference", "no_grad"), values):
        assert not reasons(mode, value)
    for value in values:
        (reason,) = reasons("grad", value)
        assert "autograd mode" in reason


def test_the_kernel_that_the_table_names_indeed_records_nothing() -> None:
    live = small_live("llama")
    setting("attention").apply(live, "flex")
    setting("grad_mode").apply(live, "grad")
    begin(live)
    with pytest.raises(RuntimeError, match="does not support backward"), torch.enable_grad():
        live.model(input_ids=prompt_ids(4))
