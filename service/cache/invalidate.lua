-- Forget a value, end every load of it that is under way, and tell the workers.
--
-- Invariant: versions only grow, also after the loss of the key (they are server times).
-- KEYS[1] the value, a hash
-- KEYS[2] its version
-- ARGV[1] life time of the version, ms
-- ARGV[2] channel
-- ARGV[3] the key as the workers know it
-- Reply: the new version.
-- Source: our own; see get.lua.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local version = math.max(tonumber(redis.call('GET', KEYS[2]) or 0) + 1, now)

redis.call('SET', KEYS[2], string.format('%.0f', version), 'PX', ARGV[1])
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return version
