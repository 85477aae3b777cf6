"""How a verdict on the time of steps looks."""

from engine.trace.statistics import Verdict


def verdict_role(verdict: Verdict) -> str:
    """The role of the style sheet for a verdict."""
    return {Verdict.FASTER: "good", Verdict.SLOWER: "danger"}.get(verdict, "muted")
