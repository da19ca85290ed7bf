"""What SQLite and PostgreSQL share: measuring and rating in SQL, once each event stands in the table `events`."""

from typing import Final

PEAKS: Final = """
SELECT account, MAX(level) AS quantity FROM (
  SELECT account, SUM(change) OVER (PARTITION BY account ORDER BY time) AS level FROM (
    SELECT account, time, SUM(value) AS change FROM events
    WHERE metric = 'leads' AND time >= '2026-01-01' AND time < '2026-02-01' GROUP BY account, time) AS changes
) AS levels GROUP BY account
"""

OVERAGE: Final = f"""
WITH usage AS (
  SELECT account, metric, SUM(value) AS quantity FROM events
  WHERE metric <> 'leads' AND time >= '2026-01-01' AND time < '2026-02-01' GROUP BY account, metric
  UNION ALL
  SELECT account, 'leads', quantity FROM ({PEAKS}) AS peaks
)
SELECT t.metric, SUM(CASE WHEN u.quantity > t.allowance
                          THEN CAST((u.quantity - t.allowance + t.block - 1) AS BIGINT) / t.block * t.price ELSE 0 END)
FROM subscriptions s JOIN tariffs t ON t.package = s.package
LEFT JOIN usage u ON u.account = s.account AND u.metric = t.metric GROUP BY t.metric
"""
"""Overage by metric, prices being whole ten-thousandths."""
