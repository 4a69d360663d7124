-- Jobs. Every change of state is one statement: a guarded UPDATE whose row, if there is one, becomes
-- an event with the same id as the job's new status_id. No row means: someone else was first.

-- name: claim_key (write)
-- Take an idempotency key; no row when it is taken and not expired.
INSERT INTO idempotency_keys AS k (scope, key, fingerprint, job_id, expires_at)
VALUES (%(scope)s, %(key)s, %(fingerprint)s, %(job_id)s, now() + %(life_s)s * interval '1 second')
ON CONFLICT (scope, key) DO UPDATE
SET fingerprint = excluded.fingerprint, job_id = excluded.job_id, expires_at = excluded.expires_at
WHERE k.expires_at < now()
RETURNING job_id

-- name: find_key (quick)
-- What an idempotency key stands for.
SELECT fingerprint, job_id FROM idempotency_keys
WHERE scope = %(scope)s AND key = %(key)s AND expires_at >= now()

-- name: purge_keys (batch)
-- Forget expired idempotency keys, a bounded number at a time; not one that is just taken anew.
DELETE FROM idempotency_keys
WHERE (scope, key) IN (SELECT scope, key FROM idempotency_keys WHERE expires_at < now()
                       LIMIT 1000 FOR UPDATE SKIP LOCKED)

-- name: insert_job (write)
-- Record a new job and its first event: creating when it must be paid, running when it is free.
WITH made AS (
    INSERT INTO jobs (id, flow_uid, flow_slug, variant, free, state, status_id, principal,
                      identifier_from_purchaser, input_data, runner_input, input_hash,
                      supported_payment_source_index, due_at, run_deadline, request_id,
                      traceparent)
    VALUES (%(id)s, %(flow_uid)s, %(flow_slug)s, %(variant)s, %(free)s, %(state)s,
            gen_random_uuid(), %(principal)s, %(identifier_from_purchaser)s,
            %(input_data)s::json, %(runner_input)s::json, %(input_hash)s,
            %(supported_payment_source_index)s, now() + %(due_in_s)s * interval '1 second',
            now() + %(run_within_s)s * interval '1 second', %(request_id)s, %(traceparent)s)
    RETURNING id, seq, state, status_id)
INSERT INTO job_events (id, job_id, seq, state, cause)
SELECT status_id, id, seq, state, %(cause)s FROM made

-- name: get_job (quick)
-- One job with its open question.
SELECT j.*, r.input_schema, r.schema_hashes, r.expires_at AS input_expires_at
FROM jobs j
LEFT JOIN input_requests r ON r.id = j.status_id AND j.state = 'awaiting_input'
WHERE j.id = %(job_id)s

-- name: read_statuses (quick)
-- Several jobs as /status tells of them; question, result and failure in the state they belong to.
SELECT j.id, j.flow_uid, j.state, j.status_id, j.seq, r.input_schema,
    CASE WHEN j.state = 'completed' THEN j.result END AS result,
    CASE WHEN j.state = 'failed' THEN j.failure END AS failure
FROM jobs j
LEFT JOIN input_requests r ON r.id = j.status_id AND j.state = 'awaiting_input'
WHERE j.id = ANY(%(job_ids)s::uuid[])

-- name: attach_payment (write)
-- creating -> awaiting_payment, with the terms to be shown to the purchaser.
WITH moved AS (
    UPDATE jobs SET state = 'awaiting_payment', status_id = gen_random_uuid(), seq = seq + 1,
        payment_id = %(payment_id)s, blockchain_identifier = %(blockchain_identifier)s,
        agent_identifier = %(agent_identifier)s, seller_vkey = %(seller_vkey)s,
        pay_by_time_ms = %(pay_by_time_ms)s, submit_result_time_ms = %(submit_result_time_ms)s,
        unlock_time_ms = %(unlock_time_ms)s,
        external_dispute_unlock_time_ms = %(external_dispute_unlock_time_ms)s,
        payment_source_type = %(payment_source_type)s,
        run_deadline = to_timestamp(%(submit_result_time_ms)s / 1000.0)
                       - %(settle_margin_s)s * interval '1 second',
        due_at = now() + %(check_in_s)s * interval '1 second', updated_at = now()
    WHERE id = %(job_id)s AND state = 'creating'
    RETURNING id, seq, state, status_id)
INSERT INTO job_events (id, job_id, seq, state, cause, detail)
SELECT status_id, id, seq, state, %(cause)s, %(payment_id)s FROM moved

-- name: abandon_intent (write)
-- creating -> failed where certainly no payment exists; its key is free for a new try.
WITH moved AS (
    UPDATE jobs SET state = 'failed', status_id = gen_random_uuid(), seq = seq + 1,
        failure_code = %(code)s, failure = %(failure)s, updated_at = now(), completed_at = now()
    WHERE id = %(job_id)s AND state = 'creating'
    RETURNING id, seq, state, status_id),
freed AS (
    DELETE FROM idempotency_keys k USING moved WHERE k.job_id = moved.id)
INSERT INTO job_events (id, job_id, seq, state, cause, detail)
SELECT status_id, id, seq, state, %(code)s, %(failure)s FROM moved

-- name: confirm_payment (batch)
-- awaiting_payment -> running: the chain shows the funds.
WITH moved AS (
    UPDATE jobs SET state = 'running', status_id = gen_random_uuid(), seq = seq + 1,
        on_chain_state = %(on_chain_state)s, paid_at = now(), due_at = now(), updated_at = now()
    WHERE id = %(job_id)s AND state = 'awaiting_payment'
    RETURNING id, seq, state, status_id)
INSERT INTO job_events (id, job_id, seq, state, cause)
SELECT status_id, id, seq, state, 'payment-seen' FROM moved

-- name: fail_unpaid (batch)
-- awaiting_payment -> failed: no valid payment can come any more.
WITH moved AS (
    UPDATE jobs SET state = 'failed', status_id = gen_random_uuid(), seq = seq + 1,
        failure_code = %(code)s, failure = %(failure)s, on_chain_state = %(on_chain_state)s,
        updated_at = now(), completed_at = now()
    WHERE id = %(job_id)s AND state = 'awaiting_payment'
    RETURNING id, seq, state, status_id)
INSERT INTO job_events (id, job_id, seq, state, cause, detail)
SELECT status_id, id, seq, state, %(code)s, %(failure)s FROM moved

-- name: fail_withdrawn (batch)
-- running | awaiting_input -> failed: the purchaser's funds went back while it was under way.
WITH moved AS (
    UPDATE jobs SET state = 'failed', status_id = gen_random_uuid(), seq = seq + 1,
        failure_code = %(code)s, failure = %(failure)s, on_chain_state = %(on_chain_state)s,
        lease_owner = NULL, lease_until = NULL, updated_at = now(), completed_at = now()
    WHERE id = %(job_id)s AND (state = 'running' OR state = 'awaiting_input')
    RETURNING id, seq, state, status_id)
INSERT INTO job_events (id, job_id, seq, state, cause, detail)
SELECT status_id, id, seq, state, %(code)s, %(failure)s FROM moved

-- name: note_late_payment (batch)
-- Funds for a job that had failed unpaid: once, for the operator, beside the state it stays in.
WITH noted AS (
    UPDATE jobs SET seq = seq + 1, on_chain_state = %(on_chain_state)s, paid_at = now()
    WHERE id = %(job_id)s AND state = 'failed' AND paid_at IS NULL
    RETURNING id, seq, state)
INSERT INTO job_events (id, job_id, seq, state, cause, detail)
SELECT gen_random_uuid(), id, seq, state, 'late-payment', %(blockchain_identifier)s FROM noted

-- name: note_chain_state (batch)
-- Remember what the chain says; no state of the job changes by it.
UPDATE jobs SET on_chain_state = %(on_chain_state)s, updated_at = now()
WHERE id = %(job_id)s AND on_chain_state IS DISTINCT FROM %(on_chain_state)s

-- name: claim_payment_checks (batch)
-- Jobs whose payment is due for a look of its own; put off so that no other worker takes them too.
UPDATE jobs SET due_at = now() + %(again_in_s)s * interval '1 second'
WHERE id IN (SELECT id FROM jobs
             WHERE state IN ('creating', 'awaiting_payment') AND due_at <= now()
             ORDER BY due_at LIMIT %(most)s FOR UPDATE SKIP LOCKED)
RETURNING id, state, blockchain_identifier, created_at, pay_by_time_ms, submit_result_time_ms,
    settlement, paid_at, request_id, traceparent

-- name: look_soon (write)
-- The request that made this intent has ended without knowing: look before the usual time.
UPDATE jobs SET due_at = least(due_at, now() + %(in_s)s * interval '1 second')
WHERE id = %(job_id)s AND state = 'creating'

-- name: next_look (quick)
-- When an intent is looked at next; untouched: the request that made it may still be at work.
SELECT extract(epoch FROM due_at - now())::float8 AS left_s,
    due_at = created_at + %(first_check_s)s * interval '1 second' AS untouched
FROM jobs WHERE id = %(job_id)s AND state = 'creating'

-- name: find_payments (batch)
-- The jobs that payments belong to, by identifier on the chain or, before that is known, by job id.
SELECT id, state, blockchain_identifier, created_at, pay_by_time_ms, submit_result_time_ms,
    settlement, paid_at, request_id, traceparent
FROM jobs
WHERE blockchain_identifier = ANY(%(blockchain_identifiers)s) OR id = ANY(%(job_ids)s::uuid[])

-- name: claim_runs (batch)
-- Lease runnable jobs to this worker; the attempt number fences whoever held them before. With the
-- first contract a wallet brings one result at a time to the chain, so what waits there in time makes
-- the end of a run earlier, and a run that would end too late is not begun. Runs that were lost twice
-- come one at a time: if one of them kills its workers, it is not to take the others along.
WITH queues AS (
    SELECT seller_vkey, least(%(queue_limit_s)s, count(*) * %(queue_each_s)s)::float8
                        * interval '1 second' AS wait
    FROM jobs
    WHERE settlement IN ('due', 'submitted')
      AND payment_source_type IS DISTINCT FROM 'Web3CardanoV2'
      AND submit_result_time_ms > extract(epoch FROM now()) * 1000
    GROUP BY seller_vkey),
suspects AS (
    SELECT j.id, j.run_deadline - coalesce(q.wait, interval '0') AS ends_at
    FROM jobs j LEFT JOIN queues q ON q.seller_vkey = j.seller_vkey
        AND j.payment_source_type IS DISTINCT FROM 'Web3CardanoV2'
    WHERE j.state = 'running' AND j.due_at <= now()
      AND j.run_deadline - coalesce(q.wait, interval '0') > now()
      AND (j.lease_until IS NULL OR j.lease_until < now())
      AND j.lost_runs + (j.lease_owner IS NOT NULL)::integer >= %(suspect_after)s
      AND j.lost_runs + (j.lease_owner IS NOT NULL)::integer < %(most_lost)s
    ORDER BY j.due_at LIMIT %(most_suspects)s FOR UPDATE OF j SKIP LOCKED),
others AS (
    SELECT j.id, j.run_deadline - coalesce(q.wait, interval '0') AS ends_at
    FROM jobs j LEFT JOIN queues q ON q.seller_vkey = j.seller_vkey
        AND j.payment_source_type IS DISTINCT FROM 'Web3CardanoV2'
    WHERE j.state = 'running' AND j.due_at <= now()
      AND j.run_deadline - coalesce(q.wait, interval '0') > now()
      AND (j.lease_until IS NULL OR j.lease_until < now())
      AND j.lost_runs + (j.lease_owner IS NOT NULL)::integer
          < least(%(suspect_after)s::integer, %(most_lost)s::integer)
    ORDER BY j.due_at LIMIT %(most)s::bigint - (SELECT count(*) FROM suspects)
    FOR UPDATE OF j SKIP LOCKED),
chosen AS (SELECT * FROM suspects UNION ALL SELECT * FROM others)
UPDATE jobs SET lease_owner = %(owner)s, run_attempts = run_attempts + 1,
    lost_runs = lost_runs + (lease_owner IS NOT NULL)::integer,
    lease_until = now() + %(lease_s)s * interval '1 second'
FROM chosen WHERE jobs.id = chosen.id
RETURNING jobs.id, run_attempts, lost_runs, failed_runs, flow_uid, variant, free,
    identifier_from_purchaser, runner_input, chosen.ends_at AS run_deadline, request_id, traceparent,
    (SELECT coalesce(json_agg(json_build_array(r.runner_request_id, r.runner_answer)
                              ORDER BY r.answered_at), '[]'::json)
     FROM input_requests r WHERE r.job_id = jobs.id AND r.answered_at IS NOT NULL) AS answers

-- name: renew_leases (batch)
-- Keep the runs this worker holds; what does not come back was lost to another.
UPDATE jobs SET lease_until = now() + %(lease_s)s * interval '1 second'
WHERE id = ANY(%(job_ids)s::uuid[]) AND lease_owner = %(owner)s AND state = 'running'
RETURNING id

-- name: release_run (batch)
-- Give a run back, to be taken up again after a while.
UPDATE jobs SET lease_owner = NULL, lease_until = NULL,
    failed_runs = failed_runs + %(failed)s::boolean::integer,
    due_at = now() + %(again_in_s)s * interval '1 second'
WHERE id = %(job_id)s AND state = 'running'
  AND lease_owner = %(owner)s AND run_attempts = %(attempt)s

-- name: complete_run (batch)
-- running -> completed: the result is fixed for ever; a paid one is due for settlement, unless the
-- payment service would not take it any more.
WITH moved AS (
    UPDATE jobs SET state = 'completed', status_id = gen_random_uuid(), seq = seq + 1,
        result = %(result)s, result_hash = %(result_hash)s,
        settlement = CASE WHEN free THEN 'none' ELSE 'due' END,
        lease_owner = NULL, lease_until = NULL, due_at = now(),
        updated_at = now(), completed_at = now()
    WHERE id = %(job_id)s AND state = 'running'
      AND lease_owner = %(owner)s AND run_attempts = %(attempt)s
      AND (free OR to_timestamp(submit_result_time_ms / 1000.0)
                   > now() + %(closes_s)s * interval '1 second')
    RETURNING id, seq, state, status_id)
INSERT INTO job_events (id, job_id, seq, state, cause)
SELECT status_id, id, seq, state, 'run-completed' FROM moved

-- name: fail_run (batch)
-- running -> failed: the run ended without a result; the purchaser's funds return by themselves.
WITH moved AS (
    UPDATE jobs SET state = 'failed', status_id = gen_random_uuid(), seq = seq + 1,
        failure_code = %(code)s, failure = %(failure)s,
        lease_owner = NULL, lease_until = NULL, updated_at = now(), completed_at = now()
    WHERE id = %(job_id)s AND state = 'running'
      AND lease_owner = %(owner)s AND run_attempts = %(attempt)s
    RETURNING id, seq, state, status_id)
INSERT INTO job_events (id, job_id, seq, state, cause, detail)
SELECT status_id, id, seq, state, %(code)s, %(failure)s FROM moved

-- name: ask_input (batch)
-- running -> awaiting_input, with the question; its id is the status id it is shown under.
WITH moved AS (
    UPDATE jobs SET state = 'awaiting_input', status_id = gen_random_uuid(), seq = seq + 1,
        lease_owner = NULL, lease_until = NULL,
        due_at = least(run_deadline, now() + %(wait_s)s * interval '1 second'), updated_at = now()
    WHERE id = %(job_id)s AND state = 'running'
      AND lease_owner = %(owner)s AND run_attempts = %(attempt)s
    RETURNING id, seq, state, status_id, due_at),
asked AS (
    INSERT INTO input_requests (id, job_id, runner_request_id, input_schema, schema_hashes,
                                expires_at)
    SELECT status_id, id, %(runner_request_id)s, %(input_schema)s::json, %(schema_hashes)s, due_at
    FROM moved)
INSERT INTO job_events (id, job_id, seq, state, cause, detail)
SELECT status_id, id, seq, state, 'input-asked', %(runner_request_id)s FROM moved

-- name: answer_input (write)
-- awaiting_input -> running, with the purchaser's answer.
WITH moved AS (
    UPDATE jobs SET state = 'running', status_id = gen_random_uuid(), seq = seq + 1,
        due_at = now(), lost_runs = 0, failed_runs = 0, updated_at = now()
    WHERE id = %(job_id)s AND state = 'awaiting_input' AND status_id = %(status_id)s
      AND due_at > now()
    RETURNING id, seq, state, status_id),
answered AS (
    UPDATE input_requests SET answer = %(answer)s::json, runner_answer = %(runner_answer)s::json,
        answer_hash = %(answer_hash)s, answered_at = now()
    FROM moved WHERE input_requests.id = %(status_id)s)
INSERT INTO job_events (id, job_id, seq, state, cause)
SELECT status_id, id, seq, state, 'input-provided' FROM moved

-- name: answered_requests (quick)
-- The questions of a job that have their answer, newest first.
SELECT id, schema_hashes, answer_hash FROM input_requests
WHERE job_id = %(job_id)s AND answered_at IS NOT NULL ORDER BY answered_at DESC

-- name: expire_inputs (batch)
-- awaiting_input -> failed: the purchaser did not answer in time.
WITH moved AS (
    UPDATE jobs SET state = 'failed', status_id = gen_random_uuid(), seq = seq + 1,
        failure_code = 'input-expired', failure = 'The additional input did not come in time.',
        updated_at = now(), completed_at = now()
    WHERE id IN (SELECT id FROM jobs WHERE state = 'awaiting_input' AND due_at <= now()
                 ORDER BY due_at LIMIT 100 FOR UPDATE SKIP LOCKED)
    RETURNING id, seq, state, status_id, failure, failure_code)
INSERT INTO job_events (id, job_id, seq, state, cause, detail)
SELECT status_id, id, seq, state, failure_code, failure FROM moved

-- name: expire_runs (batch)
-- running -> failed: too late for the result to be settled (or the flow's own limit has passed).
WITH moved AS (
    UPDATE jobs SET state = 'failed', status_id = gen_random_uuid(), seq = seq + 1,
        failure_code = 'run-too-late', failure = 'The run could not be finished in time.',
        lease_owner = NULL, lease_until = NULL, updated_at = now(), completed_at = now()
    WHERE id IN (SELECT id FROM jobs WHERE state = 'running' AND run_deadline <= now()
                   AND (lease_until IS NULL OR lease_until < now())
                 ORDER BY due_at LIMIT 100 FOR UPDATE SKIP LOCKED)
    RETURNING id, seq, state, status_id, failure, failure_code)
INSERT INTO job_events (id, job_id, seq, state, cause, detail)
SELECT status_id, id, seq, state, failure_code, failure FROM moved

-- name: fail_lost_runs (batch)
-- running -> failed: it was begun so often without ever ending that it must be what ends the workers.
WITH moved AS (
    UPDATE jobs SET state = 'failed', status_id = gen_random_uuid(), seq = seq + 1,
        lost_runs = lost_runs + 1, failure_code = 'run-abandoned',
        failure = 'The run was begun ' || (lost_runs + 1) || ' times and broke off each time.',
        lease_owner = NULL, lease_until = NULL, updated_at = now(), completed_at = now()
    WHERE id IN (SELECT id FROM jobs WHERE state = 'running' AND lease_owner IS NOT NULL
                   AND lease_until < now() AND lost_runs + 1 >= %(most_lost)s
                 LIMIT 100 FOR UPDATE SKIP LOCKED)
    RETURNING id, seq, state, status_id, failure, failure_code)
INSERT INTO job_events (id, job_id, seq, state, cause, detail)
SELECT status_id, id, seq, state, failure_code, failure FROM moved

-- name: claim_settlements (batch)
-- Results due on the chain; put off, so that no other worker takes them too.
UPDATE jobs SET due_at = now() + %(again_in_s)s * interval '1 second',
    settlement_attempts = settlement_attempts + 1
WHERE id IN (SELECT id FROM jobs WHERE settlement IN ('due', 'submitted') AND due_at <= now()
             ORDER BY submit_result_time_ms LIMIT %(most)s FOR UPDATE SKIP LOCKED)
RETURNING id, blockchain_identifier, result_hash, submit_result_time_ms, settlement_attempts,
    settlement_recoveries, request_id, traceparent

-- name: move_settlement (batch)
-- due -> submitted -> settled | lost, and when to look again.
UPDATE jobs SET settlement = %(settlement)s,
    on_chain_state = coalesce(%(on_chain_state)s, on_chain_state),
    settlement_recoveries = settlement_recoveries + %(recoveries)s,
    due_at = now() + %(again_in_s)s * interval '1 second', updated_at = now()
WHERE id = %(job_id)s AND settlement IN ('due', 'submitted')

-- name: put_off_settlements (batch)
-- Claimed and not looked at: soon again, for whoever is there.
UPDATE jobs SET due_at = now() + %(again_in_s)s * interval '1 second'
WHERE id = ANY(%(job_ids)s::uuid[]) AND settlement IN ('due', 'submitted')

-- name: reopen_settlement (batch)
-- settled -> due: the chain has forgotten the result it had shown.
UPDATE jobs SET settlement = 'due', settlement_attempts = 0, due_at = now(), updated_at = now(),
    on_chain_state = %(on_chain_state)s
WHERE id = %(job_id)s AND settlement = 'settled'

-- name: settlement_outlook (batch)
-- How many results wait for the chain, how many wait for a person, and how long the tightest has.
SELECT count(*) AS waiting,
    count(*) FILTER (WHERE settlement_recoveries >= %(most_recoveries)s) AS stuck,
    min(submit_result_time_ms / 1000.0 - extract(epoch FROM now()))::float8 AS tightest_s
FROM jobs WHERE settlement IN ('due', 'submitted')

-- name: open_jobs (long)
-- Unfinished jobs by state, and how long the oldest of each has been in it.
SELECT state, count(*) AS jobs, extract(epoch FROM now() - min(updated_at))::float8 AS oldest_s
FROM jobs WHERE state IN ('creating', 'awaiting_payment', 'running', 'awaiting_input')
GROUP BY state ORDER BY state

-- name: unhappy_ends (long)
-- What only a person can put right: funds for failed jobs, results without their funds.
SELECT (SELECT count(*) FROM jobs WHERE state = 'failed' AND paid_at >= completed_at) AS late_paid,
    (SELECT count(*) FROM jobs WHERE settlement = 'lost') AS lost

-- name: dossier (read)
-- One job as an operator sees it: everything but what was put in.
SELECT id, flow_slug, variant, free, state, principal, identifier_from_purchaser, input_hash,
    payment_id, blockchain_identifier, payment_source_type, pay_by_time_ms, submit_result_time_ms,
    on_chain_state, paid_at, result, result_hash, failure_code, failure,
    settlement, settlement_attempts, settlement_recoveries,
    lease_owner, lease_until, due_at, run_attempts, lost_runs, failed_runs, run_deadline,
    created_at, updated_at, completed_at, now() AS seen_at
FROM jobs WHERE id = %(job_id)s

-- name: oldest_jobs (long)
-- Jobs by age, oldest first: of these states, or those that are not through.
SELECT id, flow_slug, variant, state, settlement, on_chain_state, failure_code, lease_owner,
    due_at, run_attempts, created_at, updated_at, now() AS seen_at
FROM jobs
WHERE CASE WHEN %(states)s::text[] IS NULL
           THEN state IN ('creating', 'awaiting_payment', 'running', 'awaiting_input')
                OR settlement IN ('due', 'submitted')
           ELSE state = ANY(%(states)s::text[]) END
ORDER BY created_at, id LIMIT %(most)s

-- name: job_events (read)
-- A job's history, oldest first.
SELECT id, seq, state, cause, detail, created_at FROM job_events
WHERE job_id = %(job_id)s ORDER BY seq

-- name: take_loop (batch)
-- Become (or stay) the one worker that does this; no row while another one is.
INSERT INTO loop_leases AS l (name, owner, lease_until)
VALUES (%(name)s, %(owner)s, now() + %(lease_s)s * interval '1 second')
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, lease_until = excluded.lease_until
WHERE l.owner = excluded.owner OR l.lease_until < now()
RETURNING memory

-- name: save_loop (batch)
-- Write down how far the work has come, while still its owner.
UPDATE loop_leases SET memory = %(memory)s::jsonb
WHERE name = %(name)s AND owner = %(owner)s

-- name: leave_loop (batch)
-- Let another worker go on at once.
UPDATE loop_leases SET lease_until = '-infinity' WHERE name = %(name)s AND owner = %(owner)s

-- name: oldest_open_payment (batch)
-- Since when payments must be watched, where nothing is remembered.
SELECT min(created_at) AS since FROM jobs WHERE state IN ('creating', 'awaiting_payment')
