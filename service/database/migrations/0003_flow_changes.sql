-- Every change of a flow or of its names, however made, is written down and told at commit.
--
-- A row here is one statement's change: what it is about, under a name of its own. NOTIFY says the
-- same to whoever listens; whoever did not hear it finds it here (``xact``: the rows of one
-- transaction appear together, when it commits). Workers remove what is older than a day.

-- Triggers wait for transactions that change flows. Then rather not now: behind a waiting lock
-- everybody else would wait, too. Reading flows, and selling them, is held up in no case.
SET LOCAL lock_timeout = '5s';

CREATE TABLE flow_changes (
    change   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    xact     xid8 NOT NULL DEFAULT pg_current_xact_id(),
    uids     uuid[] NOT NULL,
    aliases  text[] NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX flow_changes_xact ON flow_changes (xact);
CREATE INDEX flow_changes_at ON flow_changes (at);

CREATE FUNCTION tell_flow_change(changed_uids uuid[], changed_aliases text[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    name    uuid;
    payload text;
BEGIN
    IF changed_uids = '{}' AND changed_aliases = '{}' THEN
        RETURN;
    END IF;
    INSERT INTO flow_changes (uids, aliases) VALUES (changed_uids, changed_aliases)
    RETURNING change INTO name;
    payload := json_build_object('change', name, 'uids', changed_uids, 'aliases', changed_aliases);
    -- 8000 bytes would be refused, and the change with it; whoever hears this looks into the table.
    IF octet_length(payload) > 7900 THEN
        payload := json_build_object('change', name);
    END IF;
    PERFORM pg_notify('tollgate_flows', payload);
END
$$;

-- Once for each statement, with all its rows. TRUNCATE has none: it is told before it happens.
CREATE FUNCTION flows_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    CASE TG_OP
    WHEN 'INSERT' THEN
        PERFORM tell_flow_change(ARRAY(SELECT uid FROM new_rows), '{}');
    WHEN 'UPDATE' THEN
        -- What a name leads to depends on whether the flow is on sale.
        PERFORM tell_flow_change(
            ARRAY(SELECT uid FROM old_rows UNION SELECT uid FROM new_rows),
            ARRAY(SELECT a.alias
                    FROM old_rows o
                    JOIN new_rows n ON n.uid = o.uid AND n.enabled <> o.enabled
                    JOIN flow_aliases a ON a.flow_uid = o.uid));
    WHEN 'DELETE' THEN
        PERFORM tell_flow_change(ARRAY(SELECT uid FROM old_rows), '{}');
    ELSE
        PERFORM tell_flow_change(ARRAY(SELECT uid FROM flows), ARRAY(SELECT alias FROM flow_aliases));
    END CASE;
    RETURN NULL;
END
$$;

CREATE FUNCTION flow_aliases_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    CASE TG_OP
    WHEN 'INSERT' THEN
        PERFORM tell_flow_change('{}', ARRAY(SELECT alias FROM new_rows));
    WHEN 'UPDATE' THEN
        PERFORM tell_flow_change(
            '{}', ARRAY(SELECT alias FROM old_rows UNION SELECT alias FROM new_rows));
    WHEN 'DELETE' THEN
        PERFORM tell_flow_change('{}', ARRAY(SELECT alias FROM old_rows));
    ELSE
        PERFORM tell_flow_change('{}', ARRAY(SELECT alias FROM flow_aliases));
    END CASE;
    RETURN NULL;
END
$$;

-- Whoever may change a flow need not be allowed to write here: the triggers work as the owner, and
-- find only what stands in this schema.
REVOKE EXECUTE ON FUNCTION tell_flow_change(uuid[], text[]) FROM PUBLIC;
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['flows_changed()', 'flow_aliases_changed()'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
END
$$;

CREATE TRIGGER flows_inserted AFTER INSERT ON flows
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION flows_changed();
CREATE TRIGGER flows_updated AFTER UPDATE ON flows
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION flows_changed();
CREATE TRIGGER flows_deleted AFTER DELETE ON flows
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION flows_changed();
CREATE TRIGGER flows_truncated BEFORE TRUNCATE ON flows
    FOR EACH STATEMENT EXECUTE FUNCTION flows_changed();

CREATE TRIGGER flow_aliases_inserted AFTER INSERT ON flow_aliases
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION flow_aliases_changed();
CREATE TRIGGER flow_aliases_updated AFTER UPDATE ON flow_aliases
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION flow_aliases_changed();
CREATE TRIGGER flow_aliases_deleted AFTER DELETE ON flow_aliases
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION flow_aliases_changed();
CREATE TRIGGER flow_aliases_truncated BEFORE TRUNCATE ON flow_aliases
    FOR EACH STATEMENT EXECUTE FUNCTION flow_aliases_changed();

-- Also where a bulk load has switched ordinary triggers off (session_replication_role = replica).
ALTER TABLE flows ENABLE ALWAYS TRIGGER flows_inserted;
ALTER TABLE flows ENABLE ALWAYS TRIGGER flows_updated;
ALTER TABLE flows ENABLE ALWAYS TRIGGER flows_deleted;
ALTER TABLE flows ENABLE ALWAYS TRIGGER flows_truncated;
ALTER TABLE flow_aliases ENABLE ALWAYS TRIGGER flow_aliases_inserted;
ALTER TABLE flow_aliases ENABLE ALWAYS TRIGGER flow_aliases_updated;
ALTER TABLE flow_aliases ENABLE ALWAYS TRIGGER flow_aliases_deleted;
ALTER TABLE flow_aliases ENABLE ALWAYS TRIGGER flow_aliases_truncated;
