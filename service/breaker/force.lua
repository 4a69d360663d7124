-- An operator's word: hold the breaker open or closed for a time, or reset it.
--
-- Invariant: while it holds, force beats every other state and ends on time by itself; no permit
--   from before moves the breaker afterwards. Each command is a new generation and one event.
-- KEYS[1] the breaker, a hash
-- KEYS[2] its events: a capped stream, and the channel of the same name
-- ARGV[1] open | closed | reset
-- ARGV[2] how long, µs (0 for reset)
-- ARGV[3] by whom
-- ARGV[4] why
-- ARGV[5] process the command comes from
-- ARGV[6] life time of both keys, ms, longer than any force
-- ARGV[7] events kept
-- Reply: the transition made: from, to, cause.
-- Source: our own; see acquire.lua.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local verb, span = ARGV[1], tonumber(ARGV[2])
local stored = redis.call('HMGET', KEYS[1], 'state', 'generation', 'force', 'force_until')
local state = stored[1] or 'closed'
local generation = string.format('%.0f', math.max(tonumber(stored[2] or 0) + 1, now))
local from = stored[3] and now < tonumber(stored[4]) and stored[3] or state
local to, cause = verb, 'forced'

if verb == 'reset' then
  to, cause = 'closed', 'reset'
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'state', 'closed', 'generation', generation)
else
  redis.call('HSET', KEYS[1], 'state', state, 'generation', generation,
    'force', verb, 'force_until', string.format('%.0f', now + span), 'force_for', ARGV[2],
    'forced_by', ARGV[3], 'forced_why', ARGV[4])
  redis.call('HDEL', KEYS[1], 'streak', 'probe', 'probe_until', 'probe_for')
end
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[7], '*', 'from', from, 'to', to,
  'generation', generation, 'cause', cause, 'worker', ARGV[5], 'by', ARGV[3],
  'detail', ARGV[4], 'seconds', span / 1000000)
redis.call('PEXPIRE', KEYS[2], ARGV[6])
redis.call('PUBLISH', KEYS[2], from .. ' ' .. to .. ' ' .. generation .. ' ' .. cause)
return { from, to, cause }
