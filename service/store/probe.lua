-- Does Redis do what this service lives on: run a script that writes?
--
-- Invariant: nothing is read or changed but a key of its own, which ends by itself.
-- KEYS[1] the mark
-- ARGV[1] its life time, ms
-- Reply: 1.
-- Source: our own. A PING is answered by servers that refuse every script or every write.

redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
return 1
