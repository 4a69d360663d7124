-- Ask whether the dependency may be called; if so, hand out a permit.
--
-- Invariant: while open and before recovery nobody is admitted; after it at most one live probe
--   permit exists in the fleet, and a probe that never reports is replaced after its lease.
-- KEYS[1] the breaker, a hash
-- ARGV[1] token of this attempt, unique
-- ARGV[2] lease of a probe, µs
-- ARGV[3] recovery time after opening, µs
-- ARGV[4] longest pause, µs
-- ARGV[5] life time of the hash, ms
-- Reply: 1 admitted or 0 denied; mode normal | probe | forced, or the reason open | half-open |
--   pause | forced; generation; ms until asking again is worth while (0 if admitted).
-- Source: our own; states after Nygard's circuit breaker, fence and lease after Gray and Cheriton.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local lease = tonumber(ARGV[2])
local stored = redis.call('HMGET', KEYS[1],
  'state', 'generation', 'open_until', 'probe', 'probe_until', 'pause_until', 'force', 'force_until')
local state, generation = stored[1] or 'closed', tonumber(stored[2])
-- A clock set back (a new primary's) must not make a wait longer than it can be.
local open_until = math.min(tonumber(stored[3] or 0), now + tonumber(ARGV[3]))
local probe, probe_until = stored[4], math.min(tonumber(stored[5] or 0), now + lease)
local pause_until = math.min(tonumber(stored[6] or 0), now + tonumber(ARGV[4]))
local force, force_until = stored[7], tonumber(stored[8] or 0)

if not generation then
  -- From server time, so that a lost hash never hands out an old generation again.
  generation = now
  redis.call('HSET', KEYS[1], 'state', state, 'generation', string.format('%.0f', generation))
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
end

local function deny(reason, wait)
  return { 0, reason, generation, math.max(1, math.ceil(wait / 1000)) }
end

if force and now < force_until then
  if force == 'open' then
    return deny('forced', force_until - now)
  end
  return { 1, 'forced', generation, 0 }
end
if now < pause_until then
  return deny('pause', pause_until - now)
end
if state == 'closed' then
  return { 1, 'normal', generation, 0 }
end
if state == 'open' and now < open_until then
  return deny('open', open_until - now)
end
if state == 'half-open' and now < probe_until then
  if probe == ARGV[1] then
    return { 1, 'probe', generation, 0 }
  end
  return deny('half-open', math.min(probe_until - now, 1000000))
end

generation = math.max(generation + 1, now)
redis.call('HSET', KEYS[1], 'state', 'half-open', 'probe', ARGV[1],
  'generation', string.format('%.0f', generation),
  'probe_until', string.format('%.0f', now + lease))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return { 1, 'probe', generation, 0 }
