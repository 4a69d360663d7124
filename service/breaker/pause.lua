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
local stored = tonumber(redis.call('HGET', KEYS[1], 'pause_until') or 0)
local until_us = math.max(stored, now + tonumber(ARGV[1]))

redis.call('HSET', KEYS[1], 'pause_until', string.format('%.0f', until_us))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return math.ceil((until_us - now) / 1000)
