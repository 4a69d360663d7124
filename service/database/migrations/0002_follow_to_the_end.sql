-- What it takes to give up in good time: runs that took their worker with them, recoveries of one
-- settlement, payments that came after their job was over.

ALTER TABLE jobs
    -- Claims of the run that ended with their lease instead of an outcome.
    ADD COLUMN lost_runs integer NOT NULL DEFAULT 0,
    ADD COLUMN settlement_recoveries integer NOT NULL DEFAULT 0;

-- Nobody sees to these but a person: they must be found without reading all jobs.
CREATE INDEX jobs_paid_late ON jobs (paid_at) WHERE state = 'failed' AND paid_at >= completed_at;
CREATE INDEX jobs_lost ON jobs (completed_at) WHERE settlement = 'lost';
