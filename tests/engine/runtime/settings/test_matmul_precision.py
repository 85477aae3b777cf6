"""Products of float32: torch's switch follows the setting, and what is offered is what the processor does."""

from collections.abc import Iterator

import pytest
import torch

from engine.runtime.settings import matmul_precision
from engine.runtime.settings.base import SettingRefused
from tests.engine.runtime.live_models import torch_kept
from tests.engine.runtime.settings.small_live import setting, small_live

SETTING = setting("matmul_precision")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield from torch_kept()


def switch() -> str:
    return str(torch.backends.mkldnn.matmul.fp32_precision)  # type: ignore[attr-defined]


def test_the_switch_follows_and_probing_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul_precision, "cpu_computes", lambda name: True)
    live = small_live()
    assert SETTING.current(live) == "highest"
    before = switch()
    SETTING.probe(live)
    assert switch() == before
    SETTING.apply(live, "bf16")
    assert (SETTING.current(live), switch()) == ("bf16", "bf16")
    SETTING.probe(live)
    assert switch() == "bf16"
    SETTING.apply(live, "highest")
    assert (SETTING.current(live), switch()) == ("highest", "ieee")


def test_a_processor_without_such_products_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul_precision, "cpu_computes", lambda name: False)
    live = small_live()
    (_, fast) = SETTING.probe(live).choices
    assert "no bfloat16 products" in fast.reason
    with pytest.raises(SettingRefused, match="no bfloat16 products"):
        SETTING.apply(live, "bf16")
    assert SETTING.current(live) == "highest"


@pytest.mark.parametrize(("capability", "refused"), [((7, 5), True), ((8, 0), False)])
def test_tf32_is_for_gpus_that_have_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], refused: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    value, reason = matmul_precision._fast(torch.device("cuda:0"))
    assert (value, bool(reason)) == ("tf32", refused)


@pytest.mark.parametrize(
    ("rounds", "words"), [(True, "rounded to fewer bits"), (False, "results stay float32")]
)
def test_what_is_expected_is_what_a_product_showed(
    monkeypatch: pytest.MonkeyPatch, rounds: bool, words: str
) -> None:
    monkeypatch.setattr(matmul_precision, "cpu_computes", lambda name: True)
    monkeypatch.setattr(matmul_precision, "_rounds", lambda device, fast: rounds)
    assert words in SETTING.probe(small_live()).choices[1].expected


def test_rounding_is_seen_where_there_is_some(monkeypatch: pytest.MonkeyPatch) -> None:
    live = small_live()
    assert not matmul_precision._rounds(live.device, "highest")
    product = torch.Tensor.__matmul__

    def rounding(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        if left.dtype == torch.float64:
            return product(left, right)
        return product(left.bfloat16().float(), right.bfloat16().float())

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounding)
    assert matmul_precision._rounds(live.device, "bf16")
