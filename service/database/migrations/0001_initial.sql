-- The durable truth: flows for sale, jobs and their history, idempotency, leases of the job loops.
-- Times are timestamptz; the four payment times are the payment service's integer milliseconds,
-- kept verbatim because they are inside the signature a purchaser verifies.

CREATE TABLE flows (
    uid         uuid PRIMARY KEY,
    slug        text NOT NULL UNIQUE,
    name        text NOT NULL,
    definition  jsonb NOT NULL,
    digest      text NOT NULL,
    enabled     boolean NOT NULL DEFAULT true,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

-- Every text a flow may be asked for by: uid, slug and name.
CREATE TABLE flow_aliases (
    alias     text PRIMARY KEY,
    flow_uid  uuid NOT NULL REFERENCES flows (uid) ON DELETE CASCADE
);
CREATE INDEX flow_aliases_flow_uid ON flow_aliases (flow_uid);

CREATE TABLE jobs (
    id                            uuid PRIMARY KEY,
    flow_uid                      uuid NOT NULL REFERENCES flows (uid),
    flow_slug                     text NOT NULL,
    variant                       text NOT NULL,
    free                          boolean NOT NULL,
    state                         text NOT NULL CHECK (state IN
        ('creating', 'awaiting_payment', 'running', 'awaiting_input', 'completed', 'failed')),
    -- The event that led to the present state: what /status calls the status id.
    status_id                     uuid NOT NULL,
    -- Counts the events; in the row, so that concurrent changes cannot read the same number.
    seq                           integer NOT NULL DEFAULT 1,
    principal                     text NOT NULL,
    identifier_from_purchaser     text,
    -- json, not jsonb: the text as it was hashed, and what the runner receives.
    input_data                    json NOT NULL,
    runner_input                  json NOT NULL,
    input_hash                    text NOT NULL,

    payment_id                    text,
    blockchain_identifier         text UNIQUE,
    agent_identifier              text,
    seller_vkey                   text,
    pay_by_time_ms                bigint,
    submit_result_time_ms         bigint,
    unlock_time_ms                bigint,
    external_dispute_unlock_time_ms bigint,
    payment_source_type           text,
    supported_payment_source_index integer,
    on_chain_state                text,

    result                        text,
    result_hash                   text,
    failure_code                  text,
    failure                       text,

    -- The settlement outbox: none (free or not done) -> due -> submitted -> settled | lost.
    settlement                    text NOT NULL DEFAULT 'none' CHECK (settlement IN
        ('none', 'due', 'submitted', 'settled', 'lost')),
    settlement_attempts           integer NOT NULL DEFAULT 0,

    -- Who works on the job, until when; and not before when anyone shall look at it again.
    lease_owner                   text,
    lease_until                   timestamptz,
    due_at                        timestamptz NOT NULL DEFAULT now(),
    run_attempts                  integer NOT NULL DEFAULT 0,
    run_deadline                  timestamptz,

    created_at                    timestamptz NOT NULL DEFAULT now(),
    updated_at                    timestamptz NOT NULL DEFAULT now(),
    paid_at                       timestamptz,
    completed_at                  timestamptz,

    CHECK (state <> 'completed' OR result <> ''),
    CHECK (state <> 'failed' OR failure IS NOT NULL),
    CHECK (free OR state IN ('creating', 'failed') OR blockchain_identifier IS NOT NULL)
);
-- One partial index for each loop, so that finished jobs cost them nothing.
CREATE INDEX jobs_to_attend ON jobs (state, due_at)
    WHERE state IN ('creating', 'awaiting_payment', 'running', 'awaiting_input');
CREATE INDEX jobs_to_settle ON jobs (due_at) WHERE settlement IN ('due', 'submitted');
CREATE INDEX jobs_flow_uid ON jobs (flow_uid);

CREATE TABLE job_events (
    id          uuid PRIMARY KEY,
    job_id      uuid NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq         integer NOT NULL,
    state       text NOT NULL,
    cause       text NOT NULL,
    detail      text,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (job_id, seq)
);

-- What a runner asked the purchaser; its id is the status id under which it is shown.
CREATE TABLE input_requests (
    id                  uuid PRIMARY KEY,
    job_id              uuid NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    runner_request_id   text NOT NULL,
    input_schema        json NOT NULL,
    schema_hashes       text[] NOT NULL,
    expires_at          timestamptz NOT NULL,
    answer              json,
    runner_answer       json,
    answer_hash         text,
    answered_at         timestamptz,
    UNIQUE (job_id, runner_request_id)
);

-- scope: a principal (header keys) or '' (natural keys).
CREATE TABLE idempotency_keys (
    scope        text NOT NULL,
    key          text NOT NULL,
    fingerprint  text NOT NULL,
    -- Deferred: the key is claimed before its job is written, in the same transaction.
    job_id       uuid NOT NULL REFERENCES jobs (id) ON DELETE CASCADE
                 DEFERRABLE INITIALLY DEFERRED,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_keys_expires_at ON idempotency_keys (expires_at);
CREATE INDEX idempotency_keys_job_id ON idempotency_keys (job_id);

-- Work that one worker of the fleet does at a time, with what it has to remember.
CREATE TABLE loop_leases (
    name         text PRIMARY KEY,
    owner        text,
    lease_until  timestamptz NOT NULL DEFAULT '-infinity',
    memory       jsonb NOT NULL DEFAULT '{}'
);
