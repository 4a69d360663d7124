-- Statements of service.flows.changes: the record of changes that migration 0003 keeps.

-- name: changes_since (read)
-- How far this reading goes, and every change that one of two earlier ones could not yet see.
WITH present AS MATERIALIZED (
    SELECT pg_current_snapshot() AS snapshot,
           coalesce(%(own)s::pg_snapshot, %(fleet)s::pg_snapshot) AS own,
           coalesce(%(fleet)s::pg_snapshot, %(own)s::pg_snapshot) AS fleet
)
SELECT p.snapshot::text AS position, c.change::text AS change, c.uids::text[] AS uids, c.aliases
  FROM present p
  LEFT JOIN flow_changes c
    ON c.xact >= least(pg_snapshot_xmin(p.own), pg_snapshot_xmin(p.fleet))
   AND NOT (pg_visible_in_snapshot(c.xact, p.own) AND pg_visible_in_snapshot(c.xact, p.fleet))
 ORDER BY c.at;

-- name: forget_changes (batch)
-- Removes what no worker needs to look up any more.
DELETE FROM flow_changes
 WHERE at < clock_timestamp() - %(kept_s)s * interval '1 second';
