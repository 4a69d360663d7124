-- Let nobody call for a while, because the dependency asked for it; no verdict on its health.
--
-- Invariant: a shorter pause never ends a longer one.
-- KEYS[1] the breaker, a hash
-- ARGV[1] pause, µs, at most the longest pause
-- ARGV[2] life time of the hash, ms
-- Reply: ms until the pause is over.
-- Source: our own; see acquire.lua.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local stored = redis.call('HMGET', KEYS[1], 'pause_until', 'pause_for')
local held_until = math.min(tonumber(stored[1] or 0), now + tonumber(stored[2] or 0))
local asked_until = now + tonumber(ARGV[1])

if asked_until > held_until then
  held_until = asked_until
  redis.call('HSET', KEYS[1], 'pause_until', string.format('%.0f', asked_until),
    'pause_for', ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return math.ceil((held_until - now) / 1000)
