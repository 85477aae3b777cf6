"""How far an output moved: two configurations asked for the next token after the same tokens.

Both are fed the same tokens (they are forced), so that a difference at one place does not grow into different texts.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sameness:
    """How far distributions of the next token lie apart, over `forced` tokens.

    The first `text` of these are the text's own, the others the reference's greedy continuation. `first_difference`: at
    which of the greedy ones the most likely token is another, -1 for none: greedy text is the same. `top1`: share of
    all forced places at which it is the same. `kl_mean`, `kl_p99`: KL(reference ‖ this), nats. `nll_change`: mean
    negative log-likelihood of the text's tokens, this less reference, nats a token.
    """

    forced: int
    text: int
    first_difference: int
    top1: float
    kl_mean: float
    kl_p99: float
    nll_change: float

    @property
    def greedy_is_same(self) -> bool:
        """Whether greedy decoding would have written the same tokens, as far as it was tried."""
        return self.first_difference < 0


def compare(reference: Logits, logits: Logits, ids: npt.NDArray[np.int64], text: int) -> Sameness:
    """Compare logits (n, vocabulary) of two configurations for the forced tokens `ids` (n,), of which `text` are text.

    KL(p ‖ q) = Σ p (log p - log q) over the vocabulary, at each place; what p rules out adds nothing. Raises ValueError
    where the shapes do not fit or there is no token.
    """
    if reference.shape != logits.shape or reference.shape[:1] != ids.shape or not len(ids):
        raise ValueError(
            f"logits {reference.shape}, {logits.shape} and {ids.shape} tokens do not belong together"
        )
    p, q = log_softmax(reference), log_softmax(logits)
    chances = np.exp(p)
    with np.errstate(invalid="ignore"):
        terms = np.where(chances > 0, chances * (p - q), 0.0)
    divergence = np.maximum(terms.sum(axis=1), 0.0)  # rounding alone can make it negative
    same = reference.argmax(axis=1) == logits.argmax(axis=1)
    apart = np.flatnonzero(~same[text:])
    places = np.arange(text)
    change = (p[places, ids[:text]] - q[places, ids[:text]]).mean() if text else 0.0
    return Sameness(
        forced=len(ids),
        text=text,
        first_difference=int(apart[0]) if len(apart) else -1,
        top1=float(same.mean()),
        kl_mean=float(divergence.mean()),
        kl_p99=float(
            np.percentile(divergence, 99, method="higher")
        ),  # one that was measured: some may be infinite
        nll_change=float(change),
    )


def log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    """Log of the probabilities, (n, vocabulary), in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    result: npt.NDArray[np.float64] = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return result
