-- Say that a worker lives, and count the live ones.
--
-- Invariant: a worker counts from its first heartbeat until its life time has passed since the
--   last one, or until it leaves.
-- KEYS[1] sorted set of workers by the end of their life, ms of server time
-- ARGV[1] server time in µs; 0: ask the clock here
-- ARGV[2] id of this worker
-- ARGV[3] life time, ms; 0: the worker leaves
-- Reply: the number of live workers, and how many of them have a smaller id than this one.
-- Source: our own.

local now = tonumber(ARGV[1])
if now == 0 then
  local clock = redis.call('TIME')
  now = clock[1] * 1000000 + clock[2]
end
local now_ms = math.floor(now / 1000)
local life = tonumber(ARGV[3])

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_ms))
if life > 0 then
  redis.call('ZADD', KEYS[1], string.format('%.0f', now_ms + life), ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('ZREM', KEYS[1], ARGV[2])
end
local workers = redis.call('ZRANGE', KEYS[1], 0, -1)
local smaller = 0
for i = 1, #workers do
  if workers[i] < ARGV[2] then
    smaller = smaller + 1
  end
end
return { #workers, smaller }
