"""Layers that are split over all devices: each is timed by its own clock, and the ledger of a step is whole."""

from dataclasses import replace

import numpy as np
import torch

from engine.runtime.models.devices import SPLIT
from engine.trace.phases import Phase
from tests.gpu.rig import Outcome, Setup, ms, percent, rig

_FEWEST = 2


def split_layers(setup: Setup, outcome: Outcome) -> None:
    """A large model over all devices of this machine, where there are several."""
    if setup.is_rehearsal or torch.accelerator.device_count() < _FEWEST:
        outcome.found("split layers", "needs two devices")
        return
    with rig(replace(setup, device=SPLIT), setup.large, "split", outcome, detail="layer") as made:
        places = made.bench.live.facts.placement
        words = ", ".join(f"{count} layers on {device}" for device, count in places)
        outcome.found("placement", words or "one device", "several devices", len(places) >= _FEWEST)
        rows = made.generate(setup.tokens)
        steps = made.trace.steps
        exact = bool((steps.phases_ns[rows].sum(axis=1) == steps.wall_ns[rows]).all())
        outcome.found("sums", "exactly" if exact else "NOT", "exactly", exact)
        with_clock = float((steps.device_offset[rows] >= 0).mean())
        outcome.found("steps with device times", percent(with_clock), "100 %", with_clock == 1.0)
        share = float(np.median(steps.phases_ns[rows, Phase.UNATTRIBUTED] / steps.wall_ns[rows]))
        outcome.found("unattributed", percent(share), "≤ 5 %", share <= 0.05)
        told = bool((steps.layers_ns[rows].sum(axis=2) > 0).all())
        outcome.found("every layer has its time", "yes" if told else "no", "yes", told)
        moving_ns = float(np.median(steps.phases_ns[rows, Phase.COMMUNICATE]))
        outcome.found("moving from device to device", f"{ms(moving_ns / 1e9)} a step")
        for notice in made.notices:
            outcome.found("notice", notice)
