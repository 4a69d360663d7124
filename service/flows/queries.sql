-- Statements of service.flows: the flows on sale and the names they are found by.

-- name: find_uid (read)
-- The flow an alias stands for, if it is on sale.
SELECT f.uid
  FROM flow_aliases a
  JOIN flows f ON f.uid = a.flow_uid
 WHERE a.alias = %(alias)s AND f.enabled;

-- name: find_flow (read)
-- One flow by its uid, on sale or not: the jobs of a withdrawn flow go on.
SELECT uid, definition
  FROM flows
 WHERE uid = %(uid)s::uuid;

-- name: read_index (read)
-- The list of flows on sale in pieces of so many, each with its first slug and a digest of its rows'
-- versions (xmin: changes with every change, however made); and the marks of all their names.
SELECT (SELECT coalesce(json_agg(json_build_array(first, digest) ORDER BY number), '[]')
          FROM (SELECT number,
                       min(slug COLLATE "C") AS first,
                       left(encode(sha256(convert_to(
                         string_agg(slug || ' ' || version, ',' ORDER BY slug COLLATE "C"),
                         'UTF8')), 'hex'), 32) AS digest
                  FROM (SELECT slug, xmin::text AS version,
                               (row_number() OVER (ORDER BY slug COLLATE "C") - 1)
                                 / %(piece_flows)s AS number
                          FROM flows
                         WHERE enabled) numbered
                 GROUP BY number) pieces) AS pieces,
       (SELECT coalesce(string_agg(mark, ''::bytea ORDER BY mark), '')
          FROM (SELECT substring(sha256(convert_to(a.alias, 'UTF8')) FROM 1 FOR %(mark_bytes)s) AS mark
                  FROM flow_aliases a
                  JOIN flows f ON f.uid = a.flow_uid
                 WHERE f.enabled) marks) AS marks;

-- name: read_piece (read)
-- The flows on sale from one slug to before another, with the versions of their rows.
SELECT slug, uid, xmin::text AS version, definition
  FROM flows
 WHERE enabled
   AND slug COLLATE "C" >= %(first)s
   AND (%(following)s::text IS NULL OR slug COLLATE "C" < %(following)s)
 ORDER BY slug COLLATE "C";

-- name: lock_imports (long)
-- Imports run one after another, so that what they read of each other holds until they commit.
SELECT pg_advisory_xact_lock(%(lock)s);

-- name: flows_by_slug (long)
-- What is stored of the flows that are to be imported.
SELECT slug, uid, digest
  FROM flows
 WHERE slug = ANY(%(slugs)s);

-- name: alias_owners (long)
-- The flows that already have one of these aliases.
SELECT a.alias, f.slug
  FROM flow_aliases a
  JOIN flows f ON f.uid = a.flow_uid
 WHERE a.alias = ANY(%(aliases)s);

-- name: uid_owners (long)
-- The flows that already have one of these uids.
SELECT uid, slug
  FROM flows
 WHERE uid = ANY(%(uids)s::uuid[]);

-- name: save_flows (long)
-- Inserts flows or replaces their definitions; their uids stay.
INSERT INTO flows (uid, slug, name, definition, digest, enabled)
SELECT uid, slug, name, definition, digest, enabled
  FROM json_to_recordset(%(rows)s::json)
       AS given (uid uuid, slug text, name text, definition jsonb, digest text, enabled boolean)
ON CONFLICT (slug) DO UPDATE
   SET name = EXCLUDED.name,
       definition = EXCLUDED.definition,
       digest = EXCLUDED.digest,
       enabled = EXCLUDED.enabled,
       updated_at = now();

-- name: drop_aliases (long)
-- Frees the names of flows.
DELETE FROM flow_aliases
 WHERE flow_uid = ANY(%(uids)s::uuid[]);

-- name: save_aliases (long)
-- The names of flows, pair by pair.
INSERT INTO flow_aliases (alias, flow_uid)
SELECT unnest(%(aliases)s::text[]), unnest(%(uids)s::uuid[]);

-- name: own_changes (long)
-- What the present transaction has changed, as the triggers of migration 0003 have recorded it.
SELECT change::text AS change, uids::text[] AS uids, aliases
  FROM flow_changes
 WHERE xact = pg_current_xact_id_if_assigned()
 ORDER BY at;
