"""Narrow matrix products: right to within their rounding, for every size that is offered, and guarded where not."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from engine.runtime.weights import backends, kernels
from engine.runtime.weights.backends import WIDTHS, takes, why_not
from engine.runtime.weights.quantized import KINDS, QuantizedLinear
from engine.runtime.weights.torchao_linears import why_no_torchao

CPU = torch.device("cpu")
#: Largest relative error (L2) of a product with normally distributed weights. Half a step of rounding gives 0.004 for
#: int8 (rows of 4 sigma over 127 steps), with inputs rounded as well 0.006, and 0.08 for four bits in groups of 32.
ERRORS = {"int8": 0.012, "int8_dynamic": 0.015, "int4": 0.1}
SIZES = [(16, 32), (48, 64), (96, 160), (33, 32), (512, 96)]


def matrix(outputs: int, inputs: int, spread: bool = True) -> torch.Tensor:
    """Weights with another size in each row, so that a scale that is mixed up shows."""
    generator = torch.Generator().manual_seed(outputs * 1000 + inputs)
    weights = torch.randn(outputs, inputs, generator=generator)
    return weights * torch.logspace(-2, 2, outputs)[:, None] if spread else weights


def errors_by_row(product: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """Relative error of each output over all inputs: no row may hide behind a larger one."""
    return (product.float() - exact).norm(dim=0) / exact.norm(dim=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_products_are_right_row_by_row(
    kind: str, size: tuple[int, int], rows: int, dtype: torch.dtype
) -> None:
    if not takes(kind, CPU, *size):
        assert kind == "int4"
        assert size[0] % 16
        return
    weights = matrix(*size)
    x = torch.randn(64, size[1], generator=torch.Generator().manual_seed(1)).to(dtype)
    bias = torch.linspace(-1, 1, size[0])
    module = KINDS[kind](weights, bias)
    result = torch.cat([module(part) for part in x.split(rows)])
    assert result.dtype == dtype
    exact = x.float() @ weights.t() + bias
    rounding = {torch.float32: 0.0, torch.float16: 0.001, torch.bfloat16: 0.008}[dtype]
    assert errors_by_row(result, exact).max() < 1.5 * ERRORS[kind] + rounding


def test_what_a_product_holds_is_as_wide_as_promised() -> None:
    for kind, module in ((kind, make(matrix(64, 256), None)) for kind, make in KINDS.items()):
        held = module.weight.nbytes + module.scale.nbytes
        assert held == pytest.approx(64 * 256 * WIDTHS[kind], rel=0.02)
        assert not any(p.is_floating_point() for p in module.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_leading_dimensions_strides_and_zeros_are_taken(kind: str) -> None:
    module = KINDS[kind](matrix(16, 32), None)
    x = torch.randn(2, 32, 5).transpose(1, 2)  # not contiguous
    assert torch.allclose(module(x), module(x.contiguous()))
    assert module(x).shape == (2, 5, 16)
    assert torch.equal(module(torch.zeros(1, 32)), torch.zeros(1, 16))
    assert torch.isfinite(KINDS[kind](torch.zeros(16, 32), None)(x)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_that_were_cast_to_whole_numbers_are_refused(kind: str) -> None:
    with pytest.raises(TypeError, match="no int8 inputs"):
        KINDS[kind](matrix(16, 32), None)(torch.ones(1, 32, dtype=torch.int8))


def test_sizes_that_a_kernel_reads_beyond_are_not_offered() -> None:
    assert not takes("int8", CPU, 64, 31)
    assert not takes("int8", CPU, 64, 48)
    assert not takes("int4", CPU, 40, 64)
    assert takes("int8_dynamic", CPU, 7, 31)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kernel_that_works_is_offered_and_one_that_computes_nonsense_is_not(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert why_not(kind, CPU) == ""
    product: Callable[..., torch.Tensor] = KINDS[kind].product  # type: ignore[attr-defined]
    monkeypatch.setattr(KINDS[kind], "product", lambda self, rows: product(self, rows) * 1.2)
    assert "wrong numbers" in why_not(kind, CPU)

    def failing(self: QuantizedLinear, rows: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("not compiled for this")

    monkeypatch.setattr(KINDS[kind], "product", failing)
    assert why_not(kind, CPU) == "Its kernel fails on this machine: not compiled for this."


def test_operators_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kernels._OPERATORS, "int8", ("_no_such_operator",))
    assert "lacks the operator _no_such_operator" in why_not("int8", CPU)


def test_float8_is_for_hardware_that_has_it() -> None:
    assert "no float8 instructions" in why_not("float8", CPU)
    assert "8.0; they came with 8.9" in why_no_torchao("float8", (8, 0))


def test_other_devices_say_that_they_have_no_kernels() -> None:
    assert "no kernels for narrow weights on mps" in why_not("int8", torch.device("mps"))


def test_on_a_gpu_torchao_is_asked_and_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.runtime.weights.torchao_linears.find_spec", lambda name: None)
    assert "needs torchao" in why_no_torchao("int8", (9, 0))
    monkeypatch.setattr("engine.runtime.weights.torchao_linears.find_spec", lambda name: object())
    assert why_no_torchao("float8", (9, 0)) == ""


def test_many_rows_are_multiplied_wide_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_BLOCK", 64 * 7)  # several blocks, the last one smaller
    module = KINDS["int8"](matrix(96, 64, spread=False), None)
    x = torch.randn(40, 64)
    one_by_one = torch.cat([module(row) for row in x.split(1)])
    assert errors_by_row(module(x), one_by_one).max() < 0.01


def test_conv1d_and_linear_are_the_same_product() -> None:
    from transformers.pytorch_utils import Conv1D

    from engine.runtime.weights.linears import Linear

    conv, linear = Conv1D(48, 32), nn.Linear(32, 48)
    linear.weight.data = conv.weight.data.t().contiguous()
    for kind in KINDS:
        modules = [backends.quantized(kind, Linear(m).upright(m.weight.data), None) for m in (conv, linear)]
        x = torch.randn(3, 32)
        assert torch.equal(modules[0](x), modules[1](x))
