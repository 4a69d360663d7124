-- Say that a worker lives, and count the live ones.
--
-- Invariant: a worker counts from its first heartbeat until its life time has passed since the
--   last one, or until it leaves.
-- KEYS[1] sorted set of workers by the end of their life, ms of server time
-- ARGV[1] id of this worker
-- ARGV[2] life time, ms; 0: the worker leaves
-- Reply: the number of live workers.
-- Source: our own.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local life = tonumber(ARGV[2])

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
if life > 0 then
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + life), ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return redis.call('ZCARD', KEYS[1])
