"""Tokens a second of each generation, with DuckDB on tables that sqlite3 reads.

Where DuckDB may fetch its sqlite extension, `ATTACH 'session.cyclograph' (TYPE sqlite)` does without pandas.
"""

import sqlite3

import duckdb
import pandas


def rates(path: str) -> list[tuple[int, int, float]]:
    """(generation, tokens, tokens a second) for all generations with more than one arrival."""
    session = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    steps = pandas.read_sql("SELECT step, generation FROM steps", session)
    tokens = pandas.read_sql("SELECT step, arrival_ns FROM tokens WHERE sequence = 0", session)
    session.close()
    query = """
        SELECT generation, count(*) AS tokens, (count(*) - 1) / (max(arrival_ns) - min(arrival_ns)) * 1e9 AS rate
        FROM tokens JOIN steps USING (step)
        GROUP BY generation HAVING max(arrival_ns) > min(arrival_ns) ORDER BY generation
    """
    with duckdb.connect() as database:
        database.register("steps", steps)
        database.register("tokens", tokens)
        return database.execute(query).fetchall()
