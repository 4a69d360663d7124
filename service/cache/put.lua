-- Store what was loaded, unless the key was invalidated since the load began.
--
-- Invariant: a value read before an invalidation is never stored after it.
-- KEYS[1] the value, a hash
-- KEYS[2] its fence, a hash
-- ARGV[1] version the load began with
-- ARGV[2] value
-- ARGV[3] 1: known not to exist, 0: a value
-- ARGV[4] fresh age, ms
-- ARGV[5] life time, ms: at least the fresh age
-- Reply: 1 stored, 0 refused.
-- Source: our own; see get.lua.

if redis.call('HGET', KEYS[2], 'version') ~= ARGV[1] then
  return 0
end
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
redis.call('HSET', KEYS[1], 'value', ARGV[2], 'unknown', ARGV[3],
  'loaded_at', string.format('%.0f', now),
  'fresh_until', string.format('%.0f', now + tonumber(ARGV[4]) * 1000))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
