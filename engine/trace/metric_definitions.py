"""What each metric is called and what it means: the words that stand beside every number on screen and in
files.

In the formulas: submitted at t0, tokens 1…N available at a1 ≤ … ≤ aN (text complete, on the host), batch B.
A model that only reads has no tokens: there step s takes B_s sequences and is over when its results are on the host.
"""

from dataclasses import dataclass

from engine.protocol import Family

WRITERS = (Family.DECODER, Family.ENCODER_DECODER)
READERS = (Family.ENCODER_DECODER, Family.ENCODER)
READS_ONLY = (Family.ENCODER,)
LOWER, HIGHER = "lower", "higher"
HOST = "host, perf_counter, int64 ns"
HELD = "time held by the user (pauses, switches)"
COUNTER = (
    "energy counter of the device (NVML) or of the processor and its memory (RAPL), read with each sample"
)
LOADING = f"model loading, compilation, {HELD}"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's one definition. `unit`: "ns", "tokens/s", "sequences/s", "J/token", "W", "1" (a share) or ""
    (a count).

    `excludes`: what is left out. `needs`: what must have been measured before it has a value. `better`: "lower",
    "higher", or "" where neither is. `families`: the kinds of model that can have it.
    """

    key: str
    name: str
    short: str
    unit: str
    formula: str
    excludes: str
    needs: str
    better: str
    clock: str = HOST
    families: tuple[Family, ...] = tuple(Family)


@dataclass(frozen=True, slots=True)
class Targets:
    """Latencies that a user wants kept; None: no target."""

    name: str
    ttft_ns: int | None = None
    itl_ns: int | None = None

    @property
    def ttft_limit(self) -> float:
        """The TTFT target, ns; infinite without one."""
        return float("inf") if self.ttft_ns is None else self.ttft_ns

    @property
    def itl_limit(self) -> float:
        """The ITL target, ns; infinite without one."""
        return float("inf") if self.itl_ns is None else self.itl_ns

    def __str__(self) -> str:
        wanted = (("TTFT", self.ttft_ns), ("ITL", self.itl_ns))
        parts = [f"{name} ≤ {limit / 1e6:g} ms" for name, limit in wanted if limit is not None]
        return f"{self.name}: {', '.join(parts) or 'no target'}"


CHAT = Targets("chat", ttft_ns=200_000_000, itl_ns=50_000_000)
SECOND_LEVEL = Targets("second-level", ttft_ns=1_000_000_000)


def _itl(key: str, name: str, short: str, what: str) -> Metric:
    formula = f"{what} of the gaps between distinct arrivals"
    excludes = f"the time to the first token; {HELD}; tokens that arrive together add no zero gaps"
    return Metric(key, name, short, "ns", formula, excludes, "two arrivals", LOWER, families=WRITERS)


def _sequence(key: str, name: str, short: str, what: str) -> Metric:
    formula = f"{what} of wall_s / B_s over the encode steps"
    excludes = f"tokenization, time between steps; {HELD}"
    return Metric(key, name, short, "ns", formula, excludes, "an encode step", LOWER, families=READS_ONLY)


def _share(group: str, holds: str) -> tuple[Metric, Metric]:
    inside = (
        ""
        if group == "decode"
        else "steps at detail level step: nothing is told apart inside their forward pass"
    )
    needs = "a step" if group == "decode" else "a step at detail level phase or deeper"
    named = f"wall time of {holds}"
    return (
        Metric(
            f"{group}_share", f"{group} share", group, "1", f"median of {named} / wall_s", inside, needs, ""
        ),
        Metric(f"{group}_total", f"{group} total", f"Σ {group}", "ns", f"sum of {named}", inside, needs, ""),
    )


_ALL = (
    Metric(
        "ttft",
        "time to first token",
        "TTFT",
        "ns",
        "a1 − t0; of a sequence that joined, t0 is its own",
        LOADING,
        "a token",
        LOWER,
        families=WRITERS,
    ),
    _itl("itl_p50", "inter-token latency, median", "ITL p50", "median"),
    _itl("itl_p95", "inter-token latency, 95th percentile", "ITL p95", "95th percentile (linear)"),
    _itl("itl_p99", "inter-token latency, 99th percentile", "ITL p99", "99th percentile (linear)"),
    _itl("itl_max", "inter-token latency, largest", "ITL max", "largest"),
    _itl("itl_mean", "inter-token latency, mean", "ITL mean", "mean"),
    Metric(
        "tpot",
        "time per output token",
        "TPOT",
        "ns",
        "(aN − a1) / (N − 1) of each sequence",
        f"the first token; {HELD}",
        "two arrivals",
        LOWER,
        families=WRITERS,
    ),
    Metric(
        "token_latency",
        "token latency",
        "token",
        "ns",
        "median of wall_s / n_s, n_s tokens of a sequence in step s",
        "prefill steps; steps without tokens; time between steps",
        "a decode step",
        LOWER,
        families=WRITERS,
    ),
    Metric(
        "end_to_end",
        "end-to-end latency",
        "E2E",
        "ns",
        "aN − t0",
        f"{LOADING}; generations that still run",
        "a generation that is over, with a token",
        LOWER,
        families=WRITERS,
    ),
    Metric(
        "output_throughput",
        "output throughput",
        "output",
        "tokens/s",
        "tokens of all sequences / (aN − t0)",
        LOADING,
        "a token",
        HIGHER,
        families=WRITERS,
    ),
    Metric(
        "decode_throughput",
        "decode throughput",
        "decode rate",
        "tokens/s",
        "tokens of all sequences behind a1 / (aN − a1)",
        f"prefill and the first tokens; {HELD}",
        "two arrivals",
        HIGHER,
        families=WRITERS,
    ),
    Metric(
        "decode_throughput_each",
        "decode throughput, a sequence",
        "decode rate each",
        "tokens/s",
        "(N − 1) / (aN − a1) of each sequence",
        f"prefill and the first token; {HELD}",
        "two arrivals",
        HIGHER,
        families=WRITERS,
    ),
    Metric(
        "acceptance",
        "acceptance",
        "accepted",
        "1",
        "proposed tokens that were right / proposed tokens",
        "",
        "a verify step",
        HIGHER,
        families=WRITERS,
    ),
    Metric(
        "accepted_length",
        "accepted tokens a verify step",
        "accepted length",
        "",
        "proposed tokens that were right / verify steps",
        "the token that the model adds itself",
        "a verify step",
        HIGHER,
        families=WRITERS,
    ),
    Metric(
        "tokens_per_step",
        "tokens a step",
        "tokens/step",
        "",
        "mean of n_s, tokens by which a sequence grew in step s",
        "prefill and encode steps",
        "a decode or verify step",
        HIGHER,
        families=WRITERS,
    ),
    Metric(
        "prefill_throughput",
        "prefill throughput",
        "prefill rate",
        "tokens/s",
        "prompt tokens / wall time of the prefill steps",
        "tokenization, time between steps",
        "a prefill step",
        HIGHER,
        families=(Family.DECODER,),
    ),
    Metric(
        "encode_time",
        "encode time",
        "encode",
        "ns",
        "median of wall_s over the encode steps",
        f"tokenization; {HELD}",
        "an encode step of a model that also writes",
        LOWER,
        families=(Family.ENCODER_DECODER,),
    ),
    _sequence("sequence_p50", "sequence latency, median", "sequence p50", "median"),
    _sequence(
        "sequence_p95", "sequence latency, 95th percentile", "sequence p95", "95th percentile (linear)"
    ),
    _sequence(
        "sequence_p99", "sequence latency, 99th percentile", "sequence p99", "99th percentile (linear)"
    ),
    Metric(
        "sequence_throughput",
        "sequence throughput",
        "sequences",
        "sequences/s",
        "Σ B_s / Σ wall_s over the encode steps",
        f"tokenization, time between steps; {HELD}",
        "an encode step",
        HIGHER,
        families=READS_ONLY,
    ),
    Metric(
        "input_throughput",
        "input throughput",
        "input",
        "tokens/s",
        "input tokens / wall time of the encode steps",
        f"padding; tokenization, time between steps; {HELD}",
        "an encode step",
        HIGHER,
        families=READERS,
    ),
    Metric(
        "padding_share",
        "padding share",
        "padding",
        "1",
        "padding / (padding + input tokens) over the encode steps",
        "",
        "an encode step",
        LOWER,
        families=READS_ONLY,
    ),
    Metric(
        "stalls",
        "stalls",
        "stalls",
        "",
        "gaps > max(5 × median, median + 10 MAD) of the up to 64 gaps before,"
        " in the same generation under the same settings",
        "the first 16 gaps of a generation under its settings; " + HELD,
        "17 gaps in one generation under the same settings",
        LOWER,
        families=WRITERS,
    ),
    Metric(
        "stall_largest",
        "largest stall",
        "max stall",
        "ns",
        "the largest gap that is a stall",
        "the first 16 gaps of a generation under its settings; " + HELD,
        "a stall",
        LOWER,
        families=WRITERS,
    ),
    Metric(
        "goodput",
        "goodput, generations",
        "goodput",
        "1",
        "share of the generations of which TTFT and every inter-token gap met its target",
        f"generations that still run or yielded no token; {LOADING}",
        "a generation that is over, with a token",
        HIGHER,
        families=WRITERS,
    ),
    Metric(
        "goodput_tokens",
        "goodput, tokens",
        "goodput (tokens)",
        "1",
        "share of the tokens that met their target: TTFT for the first arrival, ITL for the others",
        LOADING,
        "a token",
        HIGHER,
        families=WRITERS,
    ),
    Metric(
        "floor_share",
        "share of the floor",
        "floor",
        "1",
        "median of floor_s / wall_s; floor_s = max(bytes / bandwidth, operations / rate), both measured here",
        "prefill, and steps of an encoder that feeds a decoder; steps before a calibration",
        "a calibration of this machine, and a step",
        HIGHER,
    ),
    Metric(
        "mbu",
        "memory bandwidth utilization",
        "MBU",
        "1",
        "median of bytes that have to move / wall_s / bandwidth that was measured here",
        "prefill, and steps of an encoder that feeds a decoder; steps before a calibration; steps with a draft model",
        "a calibration of this machine, and a step",
        HIGHER,
    ),
    Metric(
        "intensity",
        "arithmetic intensity",
        "intensity",
        "FLOP/byte",
        "median of operations that have to be done / bytes that have to move",
        "prefill, and steps of an encoder that feeds a decoder",
        "a model whose shape is known, and a step",
        "",
        clock="none: it follows from the model's shape and the context",
    ),
    Metric(
        "unattributed",
        "unattributed share",
        "unattributed",
        "1",
        "median of (wall_s − all phases) / wall_s",
        "",
        "a step",
        LOWER,
    ),
    *_share("forward", "the forward pass without attention"),
    *_share("attention", "attention blocks"),
    *_share("decode", "draft, sample, transfer, detokenize and stop"),
    Metric("steps", "steps", "steps", "", "calls of the model", "", "a step", ""),
    Metric(
        "tokens",
        "output tokens",
        "tokens",
        "",
        "tokens of all sequences",
        "",
        "a token",
        "",
        families=WRITERS,
    ),
    Metric(
        "sequences",
        "input sequences",
        "inputs",
        "",
        "Σ B_s over the encode steps",
        "",
        "an encode step",
        "",
        families=READS_ONLY,
    ),
    Metric(
        "context_length",
        "context length",
        "context",
        "",
        "tokens that the next step will find",
        "encode steps",
        "a step of the decoder",
        "",
        families=WRITERS,
    ),
    Metric(
        "held",
        "time held",
        "held",
        "ns",
        "sum of the time the user kept the engine waiting",
        "",
        "a step",
        "",
    ),
    Metric(
        "energy_per_token",
        "energy per token",
        "energy",
        "J/token",
        "Σ (E_last − E_first) / tokens that arrived between, over stretches of steps without a pause",
        f"stretches under 1 s between samples, or in which the counter moved fewer than 4 times; {HELD}",
        "an energy counter, and a stretch of steps of a second or more",
        LOWER,
        clock=COUNTER,
        families=WRITERS,
    ),
    Metric(
        "mean_power",
        "mean power",
        "power",
        "W",
        "Σ (E_last − E_first) / Σ (t_last − t_first), over the same stretches",
        f"what the energy per token leaves out; {HELD}",
        "an energy counter, and a stretch of steps of a second or more",
        LOWER,
        clock=COUNTER,
    ),
)

#: Every metric by its key.
METRICS: dict[str, Metric] = {metric.key: metric for metric in _ALL}
