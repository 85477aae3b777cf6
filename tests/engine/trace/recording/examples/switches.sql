-- Every switch, and the mean decode step of the configuration that it led to.
SELECT m.step, m.key, m.requested, m.effective, m.switch_ns / 1e6 AS switch_ms, count(s.step) AS steps,
       avg(s.wall_ns) / 1e6 AS mean_ms
FROM marks AS m LEFT JOIN steps AS s ON s.configuration = m.configuration AND s.kind = 'decode'
GROUP BY m.step, m.key ORDER BY m.step;
