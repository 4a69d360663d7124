-- Which request started a job, and in which trace (W3C traceparent, if it was traced): what is done
-- for the job later, by any worker, tells of the same. Older jobs and older workers leave them NULL.

SET LOCAL lock_timeout = '5s';

ALTER TABLE jobs ADD COLUMN request_id text, ADD COLUMN traceparent text;
