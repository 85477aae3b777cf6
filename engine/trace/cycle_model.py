"""The cycle model: measured times of steps held against what theory says that they are made of.

Textbooks write the time of n tokens as T = n·(T_layer + T_attention + T_sample) + n·V: for each token the layers, the
attention, choosing a token, and the projection to a vocabulary of V words. Of these only attention grows with the
context, since it reads keys and values of all tokens before. So the decode steps of a configuration are fitted by
a + b·context, as a whole and part by part, and the sum of what the fit says is held against what was measured. The same
fit of the floors of these steps is what theory says of a and b.

The prefill of a prompt of P tokens multiplies each of them with all weights (linear in P) and each with those before it
(quadratic): c + l·n + q·pairs, with n tokens of a chunk and n·p + n·(n + 1)/2 pairs behind p earlier ones. Of a prompt
in one piece the pairs are P·(P + 1)/2. As with decode steps, their floors are fitted in the same way, and the sum of
what the fit says is held against what was measured.

Fits are robust: stalls do not move them, and residuals say how far single steps lie off.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.trace.floor import attended_pairs
from engine.trace.ledger import Int64
from engine.trace.phases import GROUPS, Phase, StepKind
from engine.trace.statistics import ContextFit, fit_context
from engine.trace.store import KINDS, Trace

Float = npt.NDArray[np.float64]

#: The terms of the textbook formula, by the phases that they hold.
TERMS: dict[str, tuple[Phase, ...]] = {
    "layers": (Phase.EMBED, Phase.MLP, Phase.MIXER, Phase.NORM, Phase.COMMUNICATE),
    "attention": GROUPS["attention"],
    "vocabulary": (Phase.HEAD,),
    "sample": GROUPS["decode"],
    "unattributed": (Phase.UNATTRIBUTED,),
}
PREFILL_SAMPLES = 6
_ROUNDS = 30  # of reweighting
_ALIKE = 1e-3  # columns whose singular values lie further apart say the same
HOLDS = 0.05


@dataclass(frozen=True, slots=True)
class TermFit:
    """A term of the model over the decode steps of a configuration: its fit, and its share of a step in their middle.

    `residual`: the median distance of a step from the fit, relative to the median of the whole step.
    """

    name: str
    fit: ContextFit
    residual: float
    share: float


class _Predicting:
    """What a fit says of all of its steps together, against what they took."""

    __slots__ = ()
    predicted_ns: float
    measured_ns: int

    @property
    def error(self) -> float:
        """How far it lies off: predicted / measured − 1."""
        return self.predicted_ns / self.measured_ns - 1

    @property
    def holds(self) -> bool:
        """Whether the textbook formula tells the time of these tokens, or prompts, within 5 %."""
        return abs(self.error) <= HOLDS


@dataclass(frozen=True, slots=True)
class DecodeModel(_Predicting):
    """How a configuration's decode steps depend on the context: (shortest, longest) of `contexts`.

    `whole`: of their wall time; `terms`: of its parts, () where the detail level did not tell them apart; `floor`: of
    their floors, None without a calibration. `predicted_ns`: what the fit says of all of these steps together,
    `measured_ns`: what they took.
    """

    configuration: int
    contexts: tuple[int, int]
    whole: TermFit
    terms: tuple[TermFit, ...]
    floor: ContextFit | None
    predicted_ns: float
    measured_ns: int


@dataclass(frozen=True, slots=True)
class PrefillFit:
    """What a prefill step takes at all, for each token and for each pair, ns. `constant_ns` as in PrefillModel."""

    constant_ns: float | None
    token_ns: float
    pair_ns: float


@dataclass(frozen=True, slots=True)
class PrefillModel(_Predicting):
    """How a configuration's prefill steps depend on what they read: constant, each token, each pair, ns.

    `chunks`: (shortest, longest) of them in tokens; `constant_ns` None where chunks were too much alike to tell it
    apart. `residual`: median distance of a step from the fit, relative to the step. `count`: steps. `floor`: the fit of
    their floors, None without a calibration. `predicted_ns`, `measured_ns`: of all of them, as in DecodeModel.
    """

    configuration: int
    chunks: tuple[int, int]
    constant_ns: float | None
    token_ns: float
    pair_ns: float
    residual: float
    count: int
    floor: PrefillFit | None
    predicted_ns: float
    measured_ns: int

    def prompt_ns(self, tokens: int) -> float:
        """What it says of a prompt in one piece."""
        return self.step_ns(tokens, 0)

    def step_ns(self, tokens: int, past: int) -> float:
        """What it says of a chunk of so many tokens, behind others."""
        return (
            (self.constant_ns or 0.0) + self.token_ns * tokens + self.pair_ns * attended_pairs(past, tokens)
        )


def decode_models(trace: Trace, rows: range | None = None) -> list[DecodeModel]:
    """The model of each configuration of a trace that has enough decode steps at different contexts, in their order.

    `rows`: of these steps only.
    """
    steps = trace.steps
    decode = _among(trace, rows) & (steps.kind == KINDS.index(StepKind.DECODE))
    found = (decode_model(trace, number, rows) for number in _configurations(trace, decode))
    return [model for model in found if model is not None]


def decode_model(trace: Trace, configuration: int, rows: range | None = None) -> DecodeModel | None:
    """The model of one configuration; None where it has not enough decode steps at different contexts."""
    return _decode_model(trace, configuration, decode_rows(trace, configuration, rows))


def decode_rows(trace: Trace, configuration: int, rows: range | None = None) -> Int64:
    """The decode steps that stand for a configuration: those of its usual batch, since sequences that joined made
    others.
    """
    steps = trace.steps
    which = _among(trace, rows) & (steps.kind == KINDS.index(StepKind.DECODE))
    mine: Int64 = np.flatnonzero(which & (steps.configuration == configuration))
    if not len(mine):
        return mine
    batches, counts = np.unique(
        steps.batch[mine], return_counts=True
    )  # in a spoiled file they may be of any size
    usual: Int64 = mine[steps.batch[mine] == batches[counts.argmax()]]
    return usual


def _among(trace: Trace, rows: range | None) -> npt.NDArray[np.bool_]:
    """Which steps are looked at: none that was captured in depth."""
    among: npt.NDArray[np.bool_] = ~trace.steps.captured
    if rows is not None:
        among[: rows.start] = among[rows.stop :] = False
    return among


def _configurations(trace: Trace, which: npt.NDArray[np.bool_]) -> list[int]:
    found: list[int] = np.unique(trace.steps.configuration[which]).tolist()
    return found


def _decode_model(trace: Trace, configuration: int, rows: Int64) -> DecodeModel | None:
    steps = trace.steps
    context, wall = steps.context_length[rows], steps.wall_ns[rows]
    whole = _term("whole", context, wall, wall)
    if whole is None:
        return None
    phases = steps.phases_ns[rows]
    terms = []
    if not phases[:, Phase.FORWARD].any():
        for name, held in TERMS.items():
            spent = phases[:, list(held)].sum(axis=1)
            term = _term(name, context, spent, wall) if spent.any() else None
            terms += [term] if term is not None else []
    floors = steps.floor_ns[rows]
    known = floors > 0
    return DecodeModel(
        configuration,
        (int(context.min()), int(context.max())),
        whole,
        tuple(terms),
        fit_context(context[known], floors[known]),
        float((whole.fit.intercept_ns + whole.fit.slope_ns * context).sum()),
        int(wall.sum()),
    )


def _term(name: str, context: Int64, spent: Int64, wall: Int64) -> TermFit | None:
    fit = fit_context(context, spent)
    typical = float(np.median(wall))
    if fit is None or typical <= 0:
        return None
    off = np.abs(spent - (fit.intercept_ns + fit.slope_ns * context))
    middle = fit.intercept_ns + fit.slope_ns * float(np.median(context))
    return TermFit(name, fit, float(np.median(off)) / typical, middle / typical)


# ---------------------------------------------------------------- prefill


def prefill_models(trace: Trace, rows: range | None = None) -> list[PrefillModel]:
    """The model of each configuration that has enough prefill steps of different lengths, in their order.

    `rows`: of these steps only.
    """
    found = prefill_rows(trace, rows)
    models = []
    for configuration in np.unique(trace.steps.configuration[found]).tolist():
        mine = found[trace.steps.configuration[found] == configuration]
        model = _prefill_model(trace, configuration, mine)
        models += [model] if model is not None else []
    return models


def prefill_rows(trace: Trace, rows: range | None = None) -> Int64:
    """The prefill steps of one sequence: those with padding, of batches, and of generations that others joined are
    left out.
    """
    steps = trace.steps
    which = _among(trace, rows) & (steps.kind == KINDS.index(StepKind.PREFILL))
    which &= (steps.batch == 1) & (steps.padding_tokens == 0) & (steps.wall_ns > 0)
    joined = sorted({join.event.generation for join in trace.joins})
    which &= ~np.isin(steps.generation, joined)
    found = np.flatnonzero(which)
    tokens, past = prefill_lengths(trace, found)
    known: Int64 = found[(past >= 0) & (tokens > 0)]
    return known


def prefill_lengths(trace: Trace, rows: Int64) -> tuple[Int64, Int64]:
    """How many tokens each of some prefill steps (n,) read, and how many had been read before."""
    steps = trace.steps
    tokens = steps.prompt_tokens[rows].astype(np.int64)
    # the step that chose a token counts it in its context
    return tokens, steps.context_length[rows] - (steps.token_count[rows] > 0) - tokens


def _prefill_model(trace: Trace, configuration: int, rows: Int64) -> PrefillModel | None:
    tokens, past = prefill_lengths(trace, rows)
    wall = trace.steps.wall_ns[rows].astype(np.float64)
    if len(wall) < PREFILL_SAMPLES:
        return None
    pairs = np.array(
        [attended_pairs(p, n) for p, n in zip(past.tolist(), tokens.tolist(), strict=True)], np.float64
    )
    found = _prefill_fit(tokens, pairs, wall)
    if found is None:
        return None
    fit, residual = found
    floors = trace.steps.floor_ns[rows].astype(np.float64)
    known = floors > 0
    theory = _prefill_fit(tokens[known], pairs[known], floors[known]) if known.any() else None
    return PrefillModel(
        configuration,
        (int(tokens.min()), int(tokens.max())),
        fit.constant_ns,
        fit.token_ns,
        fit.pair_ns,
        residual,
        len(wall),
        theory[0] if theory is not None else None,
        float(((fit.constant_ns or 0.0) + fit.token_ns * tokens + fit.pair_ns * pairs).sum()),
        int(wall.sum()),
    )


def _prefill_fit(tokens: Int64, pairs: Float, times: Float) -> tuple[PrefillFit, float] | None:
    """Times of prefill steps (n,) by what they read, and the residual; without a constant where chunks are alike."""
    columns = [np.ones(len(times)), tokens.astype(np.float64), pairs]
    found = _fitted(columns, times)
    if found is not None:
        (constant, token, pair), residual = found
        return PrefillFit(float(constant), float(token), float(pair)), residual
    found = _fitted(columns[1:], times)
    if found is None:
        return None
    (token, pair), residual = found
    return PrefillFit(None, float(token), float(pair)), residual


def _fitted(columns: Sequence[Float], wall: Float) -> tuple[Float, float] | None:
    """Factors (c,) of columns (n,) that make wall (n,), and the median relative residual; None where columns are alike.

    Least absolute relative deviations, by reweighted least squares (Schlossmacher 1973, JASA 68(344)): a few steps may
    lie anywhere.
    """
    design = np.stack(columns, axis=1) / wall[:, None]  # a short step counts as much as a long one
    scale = np.linalg.norm(design, axis=0)
    if not (scale > 0).all():
        return None
    design = design / scale
    singular = np.linalg.svd(design, compute_uv=False)
    if len(wall) <= len(columns) or singular[-1] < _ALIKE * singular[0]:
        return None
    target, weights = np.ones(len(wall)), np.ones(len(wall))
    factors = np.zeros(len(columns))
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)
        factors = np.linalg.lstsq(design * root[:, None], target * root, rcond=None)[0]
        weights = 1 / np.maximum(np.abs(target - design @ factors), 1e-4)
    residual = float(np.median(np.abs(target - design @ factors)))
    return factors / scale, residual


# ---------------------------------------------------------------- words


def lines(trace: Trace) -> list[str]:
    """Both models in words; [] where there is not enough data for either."""
    told = []
    for decode in decode_models(trace):
        told += _decode_lines(decode)
    for prefill in prefill_models(trace):
        told += _prefill_lines(prefill)
    return told


def _decode_lines(model: DecodeModel) -> list[str]:
    count = model.whole.fit.count
    told = [
        f"decode steps of configuration {model.configuration} ({count:,} at contexts {model.contexts[0]:,} to"
        f" {model.contexts[1]:,}):",
        _term_line(model.whole),
        *map(_term_line, model.terms),
    ]
    if model.floor is not None:
        told.append(f"  {'their floor':<14} {_fit_words(model.floor)}")
    verdict = "holds" if model.holds else "does not hold"
    return [
        *told,
        f"  T = n·(layers + attention + sample) + n·V {verdict}: {model.predicted_ns / 1e6:,.1f} ms by the fit,"
        f" {model.measured_ns / 1e6:,.1f} ms measured ({model.error:+.1%})",
    ]


def _term_line(term: TermFit) -> str:
    return f"  {term.name:<14} {_fit_words(term.fit)}   {term.share:6.1%} of a step, ± {term.residual:.1%}"


def _fit_words(fit: ContextFit) -> str:
    return f"{fit.intercept_ns / 1e6:>10,.3f} ms {fit.slope_ns / 1e3:>+10,.4f} µs · context"


def _prefill_lines(model: PrefillModel) -> list[str]:
    begin = (
        f"prefill of configuration {model.configuration} ({model.count:,} steps of {model.chunks[0]:,} to"
        f" {model.chunks[1]:,} tokens): "
    )
    fit = PrefillFit(model.constant_ns, model.token_ns, model.pair_ns)
    floor = [] if model.floor is None else [f"  their floor: {_prefill_words(model.floor)}"]
    verdict = "holds" if model.holds else "does not hold"
    return [
        f"{begin}{_prefill_words(fit)} (± {model.residual:.1%})",
        *floor,
        f"  T = constant + linear + quadratic term {verdict}: {model.predicted_ns / 1e6:,.1f} ms by the fit,"
        f" {model.measured_ns / 1e6:,.1f} ms measured ({model.error:+.1%})",
    ]


def _prefill_words(fit: PrefillFit) -> str:
    constant = "" if fit.constant_ns is None else f"{fit.constant_ns / 1e6:,.3f} ms + "
    return f"{constant}{fit.token_ns / 1e3:,.2f} µs · tokens + {fit.pair_ns:,.2f} ns · pairs"
