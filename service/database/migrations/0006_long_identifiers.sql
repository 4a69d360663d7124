-- A blockchain identifier may have 8000 characters, of which a b-tree takes 2700: a payment with a
-- longer one could be made, and not written down. A hash index takes any length, and an exclusion
-- constraint on it is what a unique one is. While it is built nobody reads or writes jobs: seconds,
-- where there are millions of them.

SET LOCAL lock_timeout = '5s';

ALTER TABLE jobs
    DROP CONSTRAINT jobs_blockchain_identifier_key,
    ADD CONSTRAINT jobs_blockchain_identifier_key
        EXCLUDE USING hash (blockchain_identifier WITH =);
