"""Median and 99th percentile of the decode steps of each configuration, with pandas."""

import sqlite3

import pandas


def percentiles(path: str) -> pandas.DataFrame:
    """A row a configuration, in ms."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as session:
        steps = pandas.read_sql("SELECT * FROM steps WHERE kind = 'decode'", session)
    session.close()
    return steps.groupby("configuration")["wall_ns"].quantile([0.5, 0.99]).unstack() / 1e6
