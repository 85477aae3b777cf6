"""The times of all steps of one layout, with numpy and sqlite3 alone: what a blob of gaps holds."""

import sqlite3

import numpy as np


def phase_totals(path: str) -> dict[str, int]:
    """Wall time of each phase over all steps, ns, summed up from the gaps."""
    session = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    totals: dict[str, int] = {}
    for (layout,) in session.execute("SELECT DISTINCT layout FROM steps").fetchall():
        owners = session.execute(
            "SELECT phase FROM layout_gaps WHERE layout = ? ORDER BY gap", (layout,)
        ).fetchall()
        for (blob,) in session.execute("SELECT gaps FROM steps WHERE layout = ?", (layout,)):
            gaps = np.frombuffer(blob, "<u4" if len(blob) == 4 * len(owners) else "<i8")
            for (phase,), ns in zip(owners, gaps.tolist(), strict=True):
                totals[phase] = totals.get(phase, 0) + ns
    session.close()
    return totals
