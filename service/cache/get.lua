-- Read a value with its age, and the fence a load begun now has to pass.
--
-- Invariant: whoever is told to load (miss or stale) has a version; it ends with the next
--   invalidation or after its life time, so a missing version never matches a load.
-- KEYS[1] the value, a hash
-- KEYS[2] its fence, a hash
-- ARGV[1] life time of the fence, ms
-- Reply: miss | fresh | stale; version (0 when fresh); age in ms; 1 known not to exist or 0;
--   the value.
-- Source: our own; the fence is the lease of Nishtala et al., "Scaling Memcache at Facebook".

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local stored = redis.call('HMGET', KEYS[1], 'loaded_at', 'fresh_until', 'unknown', 'value')
local state = 'miss'

if stored[1] then
  state = now < tonumber(stored[2]) and 'fresh' or 'stale'
end
local version = 0
if state ~= 'fresh' then
  version = tonumber(redis.call('HGET', KEYS[2], 'version') or now)
  redis.call('HSET', KEYS[2], 'version', string.format('%.0f', version))
  redis.call('PEXPIRE', KEYS[2], ARGV[1])
end
-- A clock set back must not make an age negative.
local age = math.max(0, now - tonumber(stored[1] or now))
return { state, version, math.floor(age / 1000), tonumber(stored[3] or 0), stored[4] or '' }
