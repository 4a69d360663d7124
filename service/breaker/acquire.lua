-- Ask whether the dependency may be called; if so, hand out a permit.
--
-- Invariant: while open and before recovery nobody is admitted; after it at most one live probe
--   permit exists in the fleet, and a probe that never reports is replaced after its lease. Each
--   new generation is one event. A denied call writes nothing (but see `instant`).
-- KEYS[1] the breaker, a hash
-- KEYS[2] its events: a capped stream, and the channel of the same name
-- ARGV[1] token of this attempt, unique
-- ARGV[2] lease of a probe, µs
-- ARGV[3] worker that asks
-- ARGV[4] life time of both keys, ms
-- ARGV[5] events kept
-- Reply: 1 admitted or 0 denied; mode normal | probe | forced, or the reason open | half-open |
--   pause | forced; generation; ms until asking again is worth while (0 if admitted); the
--   transitions made, each from, to, cause.
-- Source: our own; states after Nygard's circuit breaker, fence and lease after Gray and Cheriton.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local token, lease = ARGV[1], tonumber(ARGV[2])
local stored = redis.call('HMGET', KEYS[1], 'state', 'generation', 'force', 'probe',
  'open_until', 'open_for', 'probe_until', 'probe_for',
  'pause_until', 'pause_for', 'force_until', 'force_for')
local state, generation = stored[1] or 'closed', tonumber(stored[2] or 0)
local force, probe = stored[3], stored[4]
local moves = {}

-- A clock set back (a new primary's) must not make a wait longer than it was meant to be. It is
-- written down, or the wait would begin anew at every look.
local function instant(field, at)
  local till, latest = tonumber(stored[at] or 0), now + tonumber(stored[at + 1] or 0)
  if till > latest then
    till = latest
    redis.call('HSET', KEYS[1], field, string.format('%.0f', till))
  end
  return till
end

local function move(from, to, cause, ...)
  -- From server time, so that a lost hash never hands out an old generation again.
  generation = math.max(generation + 1, now)
  local text = string.format('%.0f', generation)
  redis.call('HSET', KEYS[1], 'state', to, 'generation', text, ...)
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', 'from', from, 'to', to,
    'generation', text, 'cause', cause, 'worker', ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
  redis.call('PUBLISH', KEYS[2], from .. ' ' .. to .. ' ' .. text .. ' ' .. cause)
  moves[#moves + 1] = { from, to, cause }
end

local function deny(reason, till)
  return { 0, reason, generation, math.max(1, math.ceil((till - now) / 1000)), moves }
end

if generation == 0 then
  move('closed', 'closed', 'first-use')
end
local force_until = instant('force_until', 11)
if force and now >= force_until then
  redis.call('HDEL', KEYS[1], 'force', 'force_until', 'force_for', 'forced_by', 'forced_why')
  move(force, state, 'force-ended')
  force = false
end

local pause_until = instant('pause_until', 9)
local shut_until = math.max(pause_until, state == 'open' and instant('open_until', 5) or 0)
if force == 'open' then
  return deny('forced', math.max(force_until, shut_until))
elseif force then
  return { 1, 'forced', generation, 0, moves }
end
if now < shut_until then
  return deny(now < pause_until and 'pause' or 'open', shut_until)
end
if state == 'closed' then
  return { 1, 'normal', generation, 0, moves }
end

local cause = 'recovery'
if state == 'half-open' then
  local probe_until = instant('probe_until', 7)
  if now < probe_until then
    if probe == token then
      return { 1, 'probe', generation, 0, moves }
    end
    return deny('half-open', math.min(probe_until, now + 1000000))
  end
  cause = probe and 'probe-lost' or 'probe-returned'
end
move(state, 'half-open', cause, 'probe', token,
  'probe_until', string.format('%.0f', now + lease), 'probe_for', ARGV[2])
return { 1, 'probe', generation, 0, moves }
