"""Shapes of published models by hand arithmetic, and of small ones against a count over their parameters.

The published ones are built from their configurations without memory for their weights (device "meta"), in 16 bit; the
numbers expected of them are worked out in the comments from the same configurations.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    BertConfig,
    DeepseekV2Config,
    DeepseekV3Config,
    FalconConfig,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    PreTrainedModel,
    Qwen2Config,
    T5Config,
)

from engine.runtime.anatomy import find_anatomy
from engine.runtime.shapes import model_shape
from engine.trace.floor import Costs, Fed, Part
from engine.trace.phases import StepKind
from engine.trace.shapes import ModelShape, layer_weights
from tests.engine.runtime import small_encoders, small_models, small_seq2seq
from tests.engine.runtime.live_models import Bench, family_checkpoint, torch_kept

DECODE, PREFILL, ENCODE = StepKind.DECODE, StepKind.PREFILL, StepKind.ENCODE


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    yield from torch_kept()


def published(config: Any, auto: Any = AutoModelForCausalLM) -> tuple[ModelShape, int]:
    """The shape of a published model in bfloat16, and how many parameters it has."""
    with torch.device("meta"):
        model = auto.from_config(config, dtype=torch.bfloat16)
    shape = model_shape(model, find_anatomy(model), reads_only=auto is AutoModelForMaskedLM)
    return shape, sum(parameter.numel() for parameter in model.parameters())


# ---------------------------------------------------------------- published models


def test_llama_2_7b() -> None:
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=4_096,
        intermediate_size=11_008,
        num_hidden_layers=32,
        num_attention_heads=32,
    )
    shape, parameters = published(config)
    # a layer: attention 4·4096² = 67,108,864, MLP 3·4096·11008 = 135,266,304; 32 of them 6,476,005,376
    # head 4096·32000 = 131,072,000; norms 65·4096 = 266,240; the embedding again 131,072,000
    products = 6_476_005_376 + 131_072_000
    assert parameters == products + 266_240 + 131_072_000 == 6_738_415_616
    assert shape.products == products
    assert shape.weight_bytes == 2 * (products + 266_240)
    # keys and values: 2 · 32 layers · 4096 · 2 bytes = 524,288 bytes a token
    assert shape.token_bytes == 524_288
    work = Costs(shape).work(Fed(DECODE, past=4_095))
    # 4096 tokens: 2 GiB of cache; one row of the embedding 8,192 bytes
    assert work.nbytes == 13_214_687_232 + 2_147_483_648 + 8_192
    # 4·L·n_q·d_h·S = 4·32·4096·4096
    assert work.operations == 2 * products + 2_147_483_648


def test_llama_3_8b_has_grouped_keys() -> None:
    config = LlamaConfig(
        vocab_size=128_256,
        hidden_size=4_096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    )
    shape, parameters = published(config)
    # attention 2·4096² + 2·4096·1024 = 41,943,040; MLP 3·4096·14336 = 176,160,768; 32 of them 6,979,321,856
    # head 4096·128256 = 525,336,576, the embedding the same, norms 266,240
    products = 6_979_321_856 + 525_336_576
    assert parameters == products + 525_336_576 + 266_240 == 8_030_261_248
    assert shape.products == products
    # 2 · 32 layers · 8 heads · 128 · 2 bytes = 131,072: a quarter of Llama 2
    assert shape.token_bytes == 131_072
    # a prompt of 1,024: 2·N·P for the layers, the head once, 2·L·n_q·d_h·P·(P + 1)
    work = Costs(shape).work(Fed(PREFILL, positions=1_024))
    assert work.operations == 2 * (6_979_321_856 * 1_024 + 525_336_576) + 2 * 32 * 4_096 * 1_024 * 1_025
    assert work.nbytes == 2 * (products + 266_240) + 1_024 * (8_192 + 131_072)


def test_mistral_7b_keeps_a_window() -> None:
    config = MistralConfig(
        vocab_size=32_000,
        hidden_size=4_096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        sliding_window=4_096,
    )
    shape, parameters = published(config)
    # Llama 3's layers, with a vocabulary of 32,000 (131,072,000 twice)
    assert parameters == 6_979_321_856 + 2 * 131_072_000 + 266_240 == 7_241_732_096
    assert [layer.attention.window for _, layer in shape.decoder if layer.attention] == [4_096]
    costs = Costs(shape)
    within, at, beyond = (costs.work(Fed(DECODE, past=past)).nbytes for past in (1_000, 4_095, 30_000))
    assert at - within == (4_095 - 1_000) * 131_072
    assert beyond == at == shape.weight_bytes + 8_192 + 4_096 * 131_072


def test_mixtral_8x7b_reads_two_of_eight_experts() -> None:
    config = MixtralConfig(
        vocab_size=32_000,
        hidden_size=4_096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        num_local_experts=8,
        num_experts_per_tok=2,
        sliding_window=None,
    )
    shape, parameters = published(config)
    # an expert 3·4096·14336 = 176,160,768, a router 4096·8 = 32,768, attention 41,943,040
    # a layer 41,943,040 + 32,768 + 8·176,160,768 = 1,451,261,952; 32 of them 46,440,382,464; + 262,144,000 + 266,240
    assert parameters == 46_440_382_464 + 262_144_000 + 266_240 == 46_702_792_704
    ((_, layer),) = shape.decoder
    assert layer.mlp is not None
    assert (layer.mlp.experts, layer.mlp.chosen, layer.mlp.expert.products) == (8, 2, 176_160_768)
    # active: 32·(41,943,040 + 32,768 + 2·176,160,768) + 131,072,000 = 12,748,587,008 ("13B active")
    work = Costs(shape).work(Fed(DECODE))
    assert work.operations == 2 * 12_748_587_008 + 32 * 2 * 8_192
    assert work.nbytes == 2 * (12_748_587_008 + 266_240) + 8_192 + 131_072
    # a batch of four reads 8·(1 − 0.75⁴) = 5.46875 experts a layer
    four = Costs(shape).parts(Fed(DECODE, rows=4))[Part.MLP].nbytes
    assert four == pytest.approx(32 * 2 * (32_768 + 5.46875 * 176_160_768))


def test_deepseek_v3_keeps_latent_keys() -> None:
    shape, parameters = published(DeepseekV3Config())
    # queries 7168·1536 + 1536·128·192 = 48,758,784; latent keys and values 7168·576 = 4,128,768, expanded
    # 512·128·256 = 16,777,216; output 128·128·7168 = 117,440,512: together 187,105,280
    # an expert 3·7168·2048 = 44,040,192, a shared one as much, a router 7168·256 = 1,835,008
    # a dense MLP 3·7168·18432 = 396,361,728, in 3 of 61 layers
    attention, expert, router, dense = 187_105_280, 44_040_192, 1_835_008, 396_361_728
    head = 7_168 * 129_280
    products = 61 * attention + 58 * (257 * expert + router) + 3 * dense + head
    assert shape.products == products == 670_098_718_720
    # norms: a layer 2·7168 + 1536 + 512, the last 7168
    assert parameters == products + head + 61 * 16_384 + 7_168 == 671_026_404_352
    # 61 layers · (512 + 64) · 2 bytes = 70,272 a token; with 128 heads of 192 + 128 it would be 4,997,120
    assert shape.token_bytes == 70_272
    # "37B active": 61·attention + 58·(9·expert + router) + 3·dense + head
    active = 61 * attention + 58 * (9 * expert + router) + 3 * dense + head
    assert active == 36_624_596_992
    # for each pair 128·(192 + 128) = 40,960 products
    assert Costs(shape).work(Fed(DECODE, past=99)).operations == 2 * active + 2 * 61 * 40_960 * 100


def test_deepseek_v2_lite_is_16b_of_which_2_4b_are_active() -> None:
    config = DeepseekV2Config(
        vocab_size=102_400,
        hidden_size=2_048,
        intermediate_size=10_944,
        moe_intermediate_size=1_408,
        num_hidden_layers=27,
        num_attention_heads=16,
        num_key_value_heads=16,
        n_routed_experts=64,
        n_shared_experts=2,
        num_experts_per_tok=6,
        first_k_dense_replace=1,
        kv_lora_rank=512,
        q_lora_rank=None,
    )
    shape, parameters = published(config)
    # queries 2048·16·192 = 6,291,456, not compressed here; latent 2048·576 = 1,179,648, expanded 512·16·256 =
    # 2,097,152; output 16·128·2048 = 4,194,304: together 13,762,560
    # an expert 3·2048·1408 = 8,650,752, two shared ones, a router 2048·64 = 131,072; the first MLP 3·2048·10944
    attention, expert, router, dense = 13_762_560, 8_650_752, 131_072, 67_239_936
    head = 2_048 * 102_400
    products = 27 * attention + 26 * (66 * expert + router) + dense + head
    assert shape.products == products == 15_496_642_560
    # norms: a layer 2·2048 + 512, the last 2048
    assert parameters == products + head + 27 * 4_608 + 2_048 == 15_706_484_224
    assert shape.token_bytes == 27 * 576 * 2
    active = 27 * attention + 26 * (8 * expert + router) + dense + head
    assert active == 2_451_308_544
    # for each pair 16·(192 + 128) = 5,120 products
    assert Costs(shape).work(Fed(DECODE, past=99)).operations == 2 * active + 2 * 27 * 5_120 * 100


def test_qwen_2_5_0_5b_has_biases_and_a_tied_head() -> None:
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4_864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    shape, parameters = published(config)
    # attention 2·896² + 2·896·128 = 1,835,008; MLP 3·896·4864 = 13,074,432; 24 of them 357,826,560
    # the tied head 896·151936 = 136,134,656; biases 24·(896 + 256) = 27,648; norms 49·896 = 43,904
    assert shape.products == 357_826_560 + 136_134_656
    assert parameters == shape.products + 27_648 + 43_904 == 494_032_768
    # every parameter is read, the tied ones as the head
    assert shape.weight_bytes == 2 * parameters
    # two key-value heads of 64: 24·2·2·64·2 = 12,288 bytes a token
    assert Costs(shape).work(Fed(DECODE, past=999)).nbytes == 2 * parameters + 1_792 + 12_288 * 1_000


def test_gemma_2_2b_has_a_window_in_every_second_layer() -> None:
    config = Gemma2Config(
        vocab_size=256_000,
        hidden_size=2_304,
        intermediate_size=9_216,
        num_hidden_layers=26,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
        sliding_window=4_096,
    )
    shape, parameters = published(config)
    # attention 2304·(2·2048 + 2·1024) = 14,155,776; MLP 3·2304·9216 = 63,700,992; 26 of them 2,024,275,968
    # the tied head 2304·256000 = 589,824,000; norms (4·26 + 1)·2304 = 241,920
    assert parameters == 2_024_275_968 + 589_824_000 + 241_920 == 2_614_341_888
    assert shape.products == 2_024_275_968 + 589_824_000
    assert [(n, layer.attention.window) for n, layer in shape.decoder if layer.attention] == [
        (13, 4_096),
        (13, 0),
    ]
    # a token: 2·4·256·2 = 4,096 bytes a layer; at 10,000 tokens 13·4096 + 13·10000 of them
    kept = Costs(shape).work(Fed(DECODE, past=9_999)).nbytes - shape.weight_bytes - 4_608
    assert kept == 13 * 4_096 * (4_096 + 10_000)


def test_gpt_2() -> None:
    shape, parameters = published(GPT2Config())
    # attention 768·2304 + 768² = 2,359,296; MLP 2·768·3072 = 4,718,592; 12 of them 84,934,656
    # the tied head 768·50257 = 38,597,376; positions 1024·768 = 786,432
    # biases (2304 + 768 + 3072 + 768)·12 = 82,944; norms 25·1536 = 38,400
    assert parameters == 84_934_656 + 38_597_376 + 786_432 + 82_944 + 38_400 == 124_439_808
    assert shape.products == 84_934_656 + 38_597_376
    assert shape.weight_bytes == 2 * (parameters - 786_432)
    assert shape.embedded_bytes == 2 * 2 * 768  # of a token, and of its position
    assert shape.token_bytes == 2 * 12 * 768 * 2


def test_falcon_7b_shares_one_key_value_head() -> None:
    config = FalconConfig(
        vocab_size=65_024,
        hidden_size=4_544,
        num_hidden_layers=32,
        num_attention_heads=71,
        multi_query=True,
        parallel_attn=True,
        bias=False,
        alibi=False,
        new_decoder_architecture=False,
    )
    shape, parameters = published(config)
    # fused projection 4544·(4544 + 128), output 4544²: 41,877,504; MLP 8·4544² = 165,183,488; 32 of them
    # 6,625,951,744; the tied head 4544·65024 = 295,469,056; one norm a layer, one last, with biases: 33·9,088
    assert parameters == 6_625_951_744 + 295_469_056 + 299_904 == 6_921_720_704
    assert shape.products == 6_921_420_800
    # 32 layers · 2 · 64 · 2 bytes = 8,192 a token: 1/71 of what as many heads of their own would keep
    assert shape.token_bytes == 8_192
    assert Costs(shape).work(Fed(DECODE, past=9)).operations == 2 * 6_921_420_800 + 2 * 32 * 2 * 4_544 * 10


def test_mamba_2_8b_keeps_a_state() -> None:
    config = MambaConfig(
        vocab_size=50_280,
        hidden_size=2_560,
        num_hidden_layers=64,
        state_size=16,
        expand=2,
        conv_kernel=4,
        time_step_rank=160,
    )
    shape, parameters = published(config)
    # inner width 5120: in 2560·10240 + x 5120·(160 + 32) + dt 160·5120 + out 5120·2560 = 41,123,840,
    # and the convolution 4·5120 = 20,480
    # the tied head 2560·50280 = 128,716,800
    assert shape.products == 64 * (41_123_840 + 20_480) + 128_716_800 == 2_761_953_280
    # beside them, a layer: A 5120·16, D, dt's and the convolution's biases 3·5120, a norm 2560; the last norm
    assert parameters == 2_761_953_280 + 64 * (81_920 + 15_360 + 2_560) + 2_560 == 2_768_345_600
    # 5120·16 numbers of a state and 5120·4 inputs a layer, read and written, whatever the context
    work = Costs(shape).work(Fed(DECODE, past=10_000))
    assert work.nbytes == 2 * parameters + 5_120 + 64 * 2 * 2 * 102_400
    assert shape.token_bytes == 0


def test_mamba_130m() -> None:
    config = MambaConfig(
        vocab_size=50_280,
        hidden_size=768,
        num_hidden_layers=24,
        state_size=16,
        expand=2,
        conv_kernel=4,
        time_step_rank=48,
    )
    shape, parameters = published(config)
    # inner width 1536: in 768·3072 + x 1536·(48 + 32) + dt 48·1536 + out 1536·768 + the convolution 4·1536
    assert shape.products == 24 * 3_741_696 + 768 * 50_280 == 128_415_744
    # beside them, a layer: A 1536·16, D, dt's and the convolution's biases 3·1536, a norm 768; the last norm
    assert parameters == 128_415_744 + 24 * (24_576 + 4_608 + 768) + 768 == 129_135_360
    work = Costs(shape).work(Fed(DECODE, past=1))
    assert work.nbytes == 2 * parameters + 2 * 768 + 24 * 2 * 2 * 1_536 * 20
    # six for each of 1536·16 numbers of a state; what the convolution looks back at is multiplied with its weights
    assert work.operations == 2 * shape.products + 24 * 6 * 1_536 * 16


def test_bert_base_reads_all_at_once() -> None:
    shape, parameters = published(BertConfig(), AutoModelForMaskedLM)
    # attention 4·768² = 2,359,296; MLP 2·768·3072 = 4,718,592; 12 of them 84,934,656
    # head: a dense layer 768² = 589,824, the tied projection 768·30522 = 23,440,896
    assert parameters == 109_514_298
    assert shape.products == 84_934_656 + 589_824 + 23_440_896
    # of the tables (positions 512 and two kinds of segment) a row each is read: 3·768·2 bytes
    assert shape.embedded_bytes == 4_608
    assert shape.weight_bytes == 2 * (parameters - (512 + 2) * 768)
    # 128 tokens: all pairs, 2·2·12·768·128² operations
    work = Costs(shape).work(Fed(ENCODE, positions=128, logits=128))
    assert work.operations == 2 * 108_965_376 * 128 + 4 * 12 * 768 * 128**2
    assert work.nbytes == shape.weight_bytes + 128 * 4_608


def test_t5_small_reads_once_and_then_writes() -> None:
    config = T5Config(vocab_size=32_128, d_model=512, d_kv=64, d_ff=2_048, num_layers=6, num_heads=8)
    shape, parameters = published(config, AutoModelForSeq2SeqLM)
    # attention 4·512² = 1,048,576, MLP 2·512·2048 = 2,097,152: encoder 6·3,145,728 = 18,874,368
    # decoder with cross-attention 6·4,194,304 = 25,165,824; the tied head 512·32128 = 16,449,536
    assert shape.products == 18_874_368 + 25_165_824 + 16_449_536
    # norms (2·6 + 1 + 3·6 + 1)·512 = 16,384; relative positions 2·32·8
    assert parameters == shape.products + 16_384 + 512 == 60_506_624
    costs = Costs(shape)
    encode = costs.work(Fed(ENCODE, positions=100))
    assert encode.nbytes == 2 * (18_874_368 + 12 * 512) + 100 * 2 * 512
    assert encode.operations == 2 * 18_874_368 * 100 + 4 * 6 * 512 * 100**2
    # a later step reads queries and output of the cross-attention, not keys and values: 6·(4,194,304 − 524,288)
    later = costs.work(Fed(DECODE, past=9, source=100))
    decoder = 6 * 3_670_016
    assert later.operations == 2 * (decoder + 16_449_536) + 4 * 6 * 512 * (10 + 100)
    kept = 6 * 2 * 512 * 2 * (10 + 100)
    norms = 18 * 512 + 2 * 512  # the decoder's, and the last of both sides
    assert later.nbytes == 2 * (decoder + 16_449_536 + norms) + 2 * 512 + kept


# ---------------------------------------------------------------- against parameters


def table_bytes(model: PreTrainedModel) -> int:
    """Bytes of what is only looked up: embedding tables that are not the head's, too."""
    tables = {
        id(module.weight): module.weight for module in model.modules() if isinstance(module, nn.Embedding)
    }
    multiplied = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    return sum(table.nbytes for key, table in tables.items() if key not in multiplied)


def parameter_bytes(model: PreTrainedModel) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


@pytest.mark.parametrize("family", list(small_models.CONFIGURATIONS))
def test_a_decoders_parts_are_all_of_its_parameters(family: str) -> None:
    model = small_models.build(family)
    shape = model_shape(model, find_anatomy(model))
    assert shape.weight_bytes == parameter_bytes(model) - table_bytes(model)
    assert shape.remarks == ()
    assert sum(count for count, _ in shape.decoder) == len(find_anatomy(model).blocks)


@pytest.mark.parametrize("family", list(small_seq2seq.CONFIGURATIONS))
def test_both_sides_parts_are_all_of_their_parameters(family: str) -> None:
    model = small_seq2seq.build(family)
    shape = model_shape(model, find_anatomy(model))
    assert shape.weight_bytes == parameter_bytes(model) - table_bytes(model)
    assert shape.encoder
    assert shape.decoder


@pytest.mark.parametrize("family", list(small_encoders.CONFIGURATIONS))
def test_a_readers_parts_are_all_of_its_parameters(family: str) -> None:
    model = small_encoders.build(family)
    shape = model_shape(model, find_anatomy(model), reads_only=True)
    assert shape.weight_bytes == parameter_bytes(model) - table_bytes(model)
    assert not shape.decoder
    assert shape.token_bytes == 0


def test_shared_layers_are_read_once_and_multiplied_each_time() -> None:
    model = small_encoders.build("albert")
    shape = model_shape(model, find_anatomy(model), reads_only=True)
    layers = [layer for count, layer in shape.encoder for _ in range(count)]
    assert len(layers) == model.config.num_hidden_layers == 2
    first, second = (sum(w.nbytes for w in layer_weights(layer)) for layer in layers)
    assert first > second == 0
    assert layers[0].mlp is not None
    assert layers[1].mlp is not None
    assert layers[0].mlp.weights.products == layers[1].mlp.weights.products > 0


def test_where_the_configuration_lies_parameters_win_and_it_is_said() -> None:
    model = small_models.build("llama")
    model.config.num_key_value_heads = 4  # the projections make two
    shape = model_shape(model, find_anatomy(model))
    assert shape.token_bytes == 2 * 2 * 2 * 8 * 4
    assert len(shape.remarks) == 2  # each layer
    assert "promises 64 numbers a token" in shape.remarks[0]
    assert "make 32" in shape.remarks[0]


def test_a_mixer_whose_state_is_unknown_is_counted_by_its_parameters_and_says_so() -> None:
    model = small_models.build("mamba")
    for block in find_anatomy(model).blocks:
        for part in block.mixer:
            del part.module.ssm_state_size
    shape = model_shape(model, find_anatomy(model))
    assert shape.weight_bytes == parameter_bytes(model) - table_bytes(model)
    assert shape.decoder[0][1].mixer is not None
    assert shape.decoder[0][1].mixer.state == 0
    assert shape.remarks == ("the state of MambaMixer is not known: it is counted by its parameters only",)


def test_attention_of_unknown_make_is_counted_by_its_parameters_and_says_so() -> None:
    model = small_models.build("llama")
    model.config.num_attention_heads = 0
    for block in find_anatomy(model).blocks:
        attention = block.attention[0].module
        attention.secret = attention._modules.pop("k_proj")
    shape = model_shape(model, find_anatomy(model))
    assert shape.weight_bytes == parameter_bytes(model) - table_bytes(model)
    assert shape.token_bytes == 0
    assert "the heads of LlamaAttention could not be told" in shape.remarks[0]


# ---------------------------------------------------------------- against what a step leaves


@pytest.mark.parametrize(
    "family",
    [
        "gpt2",
        "llama",
        "mistral",
        "falcon",
        "deepseek_v3",
        "mamba",
        "mamba2",
        "rwkv",
        "qwen3_next",
        "falcon_h1",
    ],
)
def test_what_is_kept_of_tokens_is_what_the_cache_holds(family: str, tmp_path: Path) -> None:
    bench = Bench(family_checkpoint(family, tmp_path))
    try:
        bench.generate(tokens=24)
    finally:
        bench.close()
    steps, shape = bench.trace.steps, bench.trace.shape(0)
    assert shape is not None
    states = sum(count * layer.mixer.kept_bytes for count, layer in shape.decoder if layer.mixer)
    windows = [layer.attention.window for _, layer in shape.decoder if layer.attention]
    held = [int(length) - 1 for length in steps.context_length]
    if windows == [16]:
        held = [min(length, 15) for length in held]  # a window holds one less than it sees
    assert steps.cache_bytes.tolist() == [shape.token_bytes * length + states for length in held]


def test_a_shape_is_the_same_however_often_it_is_derived() -> None:
    model = small_models.build("qwen3_next")
    anatomy = find_anatomy(model)
    assert model_shape(model, anatomy) == model_shape(model, anatomy)
    assert replace(model_shape(model, anatomy), cache="none") != model_shape(model, anatomy)
