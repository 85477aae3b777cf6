"""The shape of a model as its floor needs it: what a step has to read and to multiply, part by part.

Weights are counted as they are stored and used now, so that a shape follows precision, quantization, pruning and
skipped layers. Layers that are alike are counted together. How a shape is found on a live model is said in
engine.runtime.shapes; what it comes to for one step, in engine.trace.floor.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights that a step reads once, whatever the number of its positions.

    `nbytes`: as they are stored, with the scales of quantized ones. `products`: multiplications with a weight that each
    position needs (a matrix of n weights: n).
    """

    nbytes: int = 0
    products: int = 0

    def __add__(self, other: "Weights") -> "Weights":
        return Weights(self.nbytes + other.nbytes, self.products + other.products)


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """An attention block.

    `pair_products`: multiplications for one query and one key in all heads: n_q·(d_k + d_v). `token_bytes`: what is
    kept of each token: n_kv·(d_k + d_v) numbers with grouped or shared keys and values (Shazeer 2019, arXiv 1911.02150;
    Ainslie et al. 2023, arXiv 2305.13245), rank + d_rope with latent ones (DeepSeek-V2, arXiv 2405.04434, section 2.1).
    `window`: tokens that a query sees, itself among them; 0: all. `causal`: whether it sees only those before it.
    """

    weights: Weights
    pair_products: int
    token_bytes: int
    window: int = 0
    causal: bool = True


@dataclass(frozen=True, slots=True)
class CrossShape:
    """A decoder's attention to what the encoder made of the prompt.

    `weights`: of queries and output, read by every step. `source_weights`: of keys and values, used once for each token
    of the prompt, by the first step. The rest as in AttentionShape.
    """

    weights: Weights
    source_weights: Weights
    pair_products: int
    token_bytes: int


@dataclass(frozen=True, slots=True)
class MlpShape:
    """A feed-forward block: dense `weights` (routers and shared experts among them), and routed experts.

    `experts`: how many there are, 0 for none; `chosen`: how many a token is sent to; `expert`: one of them.
    """

    weights: Weights
    experts: int = 0
    chosen: int = 0
    expert: Weights = Weights()


@dataclass(frozen=True, slots=True)
class MixerShape:
    """A state-space or linear-attention mixer: a state of fixed size instead of a cache.

    `state`: numbers of it, of each sequence, that every step reads and writes; `inputs`: of its last ones that a
    convolution looks back at, which are kept as well; `state_bytes`: of one number.
    """

    weights: Weights
    state: int = 0
    inputs: int = 0
    state_bytes: int = 4

    @property
    def kept_bytes(self) -> int:
        """What is kept of each sequence."""
        return (self.state + self.inputs) * self.state_bytes


@dataclass(frozen=True, slots=True)
class LayerShape:
    """One layer; what it does not have is None. `rest`: norms, and weights with no other role. `device`: where it runs,
    "" where all of the model is in one place.
    """

    attention: AttentionShape | None = None
    cross: CrossShape | None = None
    mlp: MlpShape | None = None
    mixer: MixerShape | None = None
    rest: Weights = Weights()
    device: str = ""


#: Layers that are alike, and how many of them there are.
Layers = tuple[tuple[int, LayerShape], ...]


@dataclass(frozen=True, slots=True)
class DraftShape:
    """The model, or the part of the checking one, that proposes tokens one by one. As in ModelShape."""

    decoder: Layers
    head: Weights = Weights()
    embed: Weights = Weights()
    embedded_bytes: int = 0

    def alone(self) -> "ModelShape":
        """As a model of its own."""
        return ModelShape(
            decoder=self.decoder,
            head=self.head,
            embed=self.embed,
            embedded_bytes=self.embedded_bytes,
        )


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the steps of a model read and multiply, under one configuration.

    `decoder`, `encoder`: the layers of each side; an encoder alone has no decoder. `embedded_bytes`: what a position
    reads of embedding tables (one row of each). `embed`: other weights before the layers, projections of embeddings and
    norms. `head`: what is used at each position whose logits are asked for, the projection to the vocabulary above all.
    `cache`: kind of KV cache ("none": all is computed anew at each step; "static": all of the reserved length is read).
    `computes`: what its products are of ("float32", "bfloat16", "int8", …), the fastest of which counts.
    `draft`: what proposes tokens, where a model does. `remarks`: what could not be told, a sentence each.
    `embed_device`, `head_device`: where they are, as of a layer. `no_floor`: why its steps have no floor, "" where they
    have one.
    """

    decoder: Layers
    encoder: Layers = ()
    head: Weights = Weights()
    embed: Weights = Weights()
    embedded_bytes: int = 0
    cache: str = "dynamic"
    computes: tuple[str, ...] = ("float32",)
    draft: DraftShape | None = None
    remarks: tuple[str, ...] = ()
    embed_device: str = ""
    head_device: str = ""
    no_floor: str = ""

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices over which its parts are split, in the order in which they run; () where it is in one place."""
        layers = (layer.device for _, layer in (*self.encoder, *self.decoder))
        return tuple(dict.fromkeys(filter(None, (self.embed_device, *layers, self.head_device))))

    def on(self, device: str) -> "ModelShape":
        """What of a model that is split runs on one device; layers elsewhere are there, and empty."""
        heads, embeds = self.head_device == device, self.embed_device == device
        return replace(
            self,
            encoder=_on(self.encoder, device),
            decoder=_on(self.decoder, device),
            head=self.head if heads else Weights(),
            embed=self.embed if embeds else Weights(),
            embedded_bytes=self.embedded_bytes if embeds else 0,
            embed_device="",
            head_device="",
        )

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights that multiply, every expert among them; without tables of which a row is read."""
        return sum(each.nbytes for each in self._weights())

    @property
    def products(self) -> int:
        """All weights that multiply, every expert among them."""
        return sum(each.products for each in self._weights())

    def _weights(self) -> list[Weights]:
        found = [self.head, self.embed]
        for count, layer in (*self.encoder, *self.decoder):
            found += [each for each in layer_weights(layer) for _ in range(count)]
        return found

    @property
    def token_bytes(self) -> int:
        """What the decoder's layers keep of each token, windows left aside."""
        attentions = ((count, layer.attention) for count, layer in self.decoder)
        return sum(count * each.token_bytes for count, each in attentions if each is not None)


def expert_layers(layers: Layers) -> int:
    """How many of some layers have routed experts."""
    return sum(count for count, layer in layers if layer.mlp is not None and layer.mlp.experts)


def _on(layers: Layers, device: str) -> Layers:
    return tuple(
        (count, replace(layer, device="") if layer.device == device else LayerShape())
        for count, layer in layers
    )


def layer_weights(layer: LayerShape) -> list[Weights]:
    """All weights of a layer, each of its experts by itself."""
    found = [layer.rest]
    if layer.attention is not None:
        found.append(layer.attention.weights)
    if layer.cross is not None:
        found += [layer.cross.weights, layer.cross.source_weights]
    if layer.mixer is not None:
        found.append(layer.mixer.weights)
    if layer.mlp is not None:
        found.append(layer.mlp.weights)
        found += [layer.mlp.expert] * layer.mlp.experts
    return found


def gathered(layers: list[LayerShape]) -> Layers:
    """Layers in their order, as kinds with counts."""
    counts: dict[LayerShape, int] = {}
    for layer in layers:
        counts[layer] = counts.get(layer, 0) + 1
    return tuple((count, layer) for layer, count in counts.items())
