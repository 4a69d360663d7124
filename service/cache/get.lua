-- Read a value with its age; where it has to be loaded, say who does that, and under what fence.
--
-- Invariant: at any time at most one caller holds the lease of a key, so one in the fleet loads
--   it; a lease whose holder never reports ends by itself. Whoever may load knows the version,
--   which ends with the next invalidation or with the fence, and so matches no load from before.
-- KEYS[1] the value, a hash
-- KEYS[2] its fence, a hash
-- ARGV[1] life time of the fence, ms: longer than any load
-- ARGV[2] token of this caller, unique
-- ARGV[3] lease for a value that nobody has and others wait for, ms
-- ARGV[4] lease for one that is old and given meanwhile, ms: at least ARGV[3]
-- ARGV[5] the caller has the value loaded at this instant, µs; 0: none
-- Reply: miss | fresh | stale; 1 the caller has the lease or 0; version (0: nobody needs it);
--   now, µs; age, ms; what is left of the fresh age, ms; 1 the last refresh failed or 0; instant
--   of the load, µs; 1 known not to exist or 0; the value, nil if the caller has it.
-- Source: our own; fence and lease after Nishtala et al., "Scaling Memcache at Facebook".

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local stored = redis.call('HMGET', KEYS[1], 'loaded_at', 'fresh_until', 'unknown')
local loaded_at = tonumber(stored[1] or 0)
local left = tonumber(stored[2] or 0) - now
local unknown = stored[3] == '1'

local state, value = 'miss', false
if stored[1] and left > 0 then
  state = 'fresh'
elseif stored[1] and not unknown then
  state = 'stale'
end
if state ~= 'miss' and stored[1] ~= ARGV[5] then
  value = redis.call('HGET', KEYS[1], 'value')
end

local leased, version, failed = 0, 0, 0
if state ~= 'fresh' then
  local fence = redis.call('HMGET', KEYS[2], 'version', 'holder', 'held_until', 'failed')
  version = tonumber(fence[1] or now)
  failed = tonumber(fence[4] or 0)
  local held = tonumber(fence[3] or 0) - now
  -- Further off than any lease lasts: the clock was set back.
  local free = held <= 0 or held > ARGV[4] * 1000
  -- Nobody holds it, a failed refresh is let rest: no reason to wait where there is no value.
  free = free or state == 'miss' and fence[2] == ''
  if free then
    leased = 1
    local lease = state == 'miss' and ARGV[3] or ARGV[4]
    redis.call('HSET', KEYS[2], 'version', string.format('%.0f', version), 'holder', ARGV[2],
      'held_until', string.format('%.0f', now + lease * 1000))
    redis.call('PEXPIRE', KEYS[2], ARGV[1])
  end
end
-- A clock set back must not make an age negative.
local age = math.max(0, now - (loaded_at > 0 and loaded_at or now))
return { state, leased, version, now, math.floor(age / 1000), math.floor(math.max(0, left) / 1000),
  failed, loaded_at, unknown and 1 or 0, value }
