-- Store what was loaded, unless the key was invalidated or loaded anew since that load began.
--
-- Invariant: a value read before an invalidation is never stored after it, and none takes the
--   place of one whose load began later.
-- KEYS[1] the value, a hash
-- KEYS[2] its fence, a hash
-- ARGV[1] version the load began under
-- ARGV[2] instant it began at, µs of this server
-- ARGV[3] value
-- ARGV[4] 1: known not to exist, 0: a value
-- ARGV[5] fresh age, ms
-- ARGV[6] life time, ms: at least the fresh age
-- Reply: 1 stored, 0 refused.
-- Source: our own; see get.lua.

if redis.call('HGET', KEYS[2], 'version') ~= ARGV[1] then
  return 0
end
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local loaded_at = tonumber(redis.call('HGET', KEYS[1], 'loaded_at') or 0)
-- One from the future is of a clock that was ahead, and says nothing.
if loaded_at > tonumber(ARGV[2]) and loaded_at <= now then
  return 0
end
redis.call('HSET', KEYS[1], 'value', ARGV[3], 'unknown', ARGV[4], 'loaded_at', ARGV[2],
  'fresh_until', string.format('%.0f', now + ARGV[5] * 1000))
redis.call('PEXPIRE', KEYS[1], ARGV[6])
if ARGV[4] == '1' then
  -- A flood of unknown names leaves as little behind as it can.
  redis.call('DEL', KEYS[2])
else
  redis.call('HDEL', KEYS[2], 'holder', 'held_until', 'failed')
end
return 1
