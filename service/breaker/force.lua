-- An operator's word: hold the breaker open or closed for a time, or reset it.
--
-- Invariant: while it holds, force beats every other state and ends on time by itself; a reset
--   leaves a closed breaker that no earlier permit can move.
-- KEYS[1] the breaker, a hash
-- ARGV[1] open | closed | reset
-- ARGV[2] how long, µs (not for reset)
-- ARGV[3] by whom
-- ARGV[4] why
-- ARGV[5] life time of the hash, ms, longer than any force
-- Reply: the state before: closed | open | half-open.
-- Source: our own; see acquire.lua.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local stored = redis.call('HMGET', KEYS[1], 'state', 'generation')

if ARGV[1] == 'reset' then
  local generation = math.max(tonumber(stored[2] or 0) + 1, now)
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'state', 'closed', 'generation', string.format('%.0f', generation))
else
  redis.call('HSET', KEYS[1], 'force', ARGV[1],
    'force_until', string.format('%.0f', now + tonumber(ARGV[2])))
end
redis.call('HSET', KEYS[1], 'forced_by', ARGV[3], 'forced_why', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return stored[1] or 'closed'
