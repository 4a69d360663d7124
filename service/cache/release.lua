-- Free the lease of a load that brought nothing to store.
--
-- Invariant: only its holder frees a lease; a missing fence matches no load.
-- KEYS[1] the fence, a hash
-- ARGV[1] token of the caller
-- ARGV[2] how long nobody else need try, ms; 0: at once
-- ARGV[3] life time of the fence, ms
-- Reply: 1 freed, 0 held by somebody else or nobody.
-- Source: our own; see get.lua.

if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 1
end
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
redis.call('HSET', KEYS[1], 'holder', '', 'failed', 1,
  'held_until', string.format('%.0f', now + ARGV[2] * 1000))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
