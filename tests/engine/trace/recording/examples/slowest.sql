-- The five slowest decode steps, the text that they yielded, and where their time went.
SELECT s.step, s.wall_ns / 1e6 AS ms, s.context_length, group_concat(t.text, '') AS text,
       round(100.0 * s.attention_ns / s.wall_ns) AS attention_percent, round(100.0 * s.mlp_ns / s.wall_ns) AS mlp_percent
FROM steps AS s LEFT JOIN tokens AS t ON t.step = s.step
WHERE s.kind = 'decode' GROUP BY s.step ORDER BY s.wall_ns DESC LIMIT 5;
