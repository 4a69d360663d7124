-- Whoever waits for a job's next status is told of it, by every worker and by plain SQL alike: one
-- notification for each change, sent when it is committed. Nobody waits for an intent, so nothing
-- is told of those. A message is the job's id and its status id, or of a deleted job the id alone.
--
-- Commits that notify are made one after the other (PostgreSQL takes a lock for them all); what
-- that costs is in docs/benchmarks.md.

-- A trigger waits for transactions that change jobs, and whoever comes then waits behind it: rather
-- not now than for long.
SET LOCAL lock_timeout = '5s';

CREATE FUNCTION tell_job_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM pg_notify('tollgate_jobs', OLD.id::text);
    ELSE
        PERFORM pg_notify('tollgate_jobs', NEW.id || ' ' || NEW.status_id);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER jobs_tell_status AFTER UPDATE OF state, status_id, result, failure ON jobs
    FOR EACH ROW
    WHEN (OLD.state <> 'creating'
          AND (OLD.state, OLD.status_id, OLD.result, OLD.failure)
              IS DISTINCT FROM (NEW.state, NEW.status_id, NEW.result, NEW.failure))
    EXECUTE FUNCTION tell_job_status();
CREATE TRIGGER jobs_tell_deleted AFTER DELETE ON jobs
    FOR EACH ROW EXECUTE FUNCTION tell_job_status();
