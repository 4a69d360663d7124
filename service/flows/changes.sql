-- Statements of service.flows.changes: the record of changes that migration 0003 keeps.

-- name: changes_since (read)
-- How far this reading goes, and every change that an earlier one could not yet see.
WITH present AS MATERIALIZED (SELECT pg_current_snapshot() AS snapshot)
SELECT p.snapshot::text AS position, c.change::text AS change, c.uids::text[] AS uids, c.aliases
  FROM present p
  LEFT JOIN flow_changes c
    ON c.xact >= pg_snapshot_xmin(%(position)s::pg_snapshot)
   AND NOT pg_visible_in_snapshot(c.xact, %(position)s::pg_snapshot)
 ORDER BY c.at;

-- name: forget_changes (batch)
-- Removes what no worker needs to look up any more.
DELETE FROM flow_changes
 WHERE at < clock_timestamp() - %(kept_s)s * interval '1 second';
