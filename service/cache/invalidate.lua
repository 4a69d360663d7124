-- Forget a value, end every load of it that is under way, and tell the workers.
--
-- Invariant: versions only grow, also after the loss of the key (they are server times). One
--   change counts once, however many workers tell of it.
-- KEYS[1] the value, a hash
-- KEYS[2] its fence, a hash
-- ARGV[1] life time of the fence, ms
-- ARGV[2] channel
-- ARGV[3] the key as the workers know it
-- ARGV[4] name of the change, '' if it has none
-- Reply: the new version; 0: this change has been told before.
-- Source: our own; see get.lua.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local fence = redis.call('HMGET', KEYS[2], 'version', 'changes')
local changes = fence[2] or '\n'
if ARGV[4] ~= '' then
  if string.find(changes, '\n' .. ARGV[4] .. '\n', 1, true) then
    return 0
  end
  -- The latest hundred or so: told again later than that, a change is merely forgotten twice.
  changes = string.sub('\n' .. ARGV[4] .. changes, 1, 4000)
end
local version = math.max(tonumber(fence[1] or 0) + 1, now)

redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], 'version', string.format('%.0f', version), 'changes', changes)
redis.call('PEXPIRE', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return version
