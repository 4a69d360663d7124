-- How often a run of a job failed for a reason its runner called passing. Claims are more: workers
-- that leave give runs back, and a runner may be away. Older workers leave it as it is.

SET LOCAL lock_timeout = '5s';

ALTER TABLE jobs ADD COLUMN failed_runs integer NOT NULL DEFAULT 0;
