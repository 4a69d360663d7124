-- Take the outcome of a permitted call into account.
--
-- Invariant: a report of an older generation, or of a probe whose lease was taken over, changes
--   nothing; the same report twice counts once; threshold failures with no success between open.
-- KEYS[1] the breaker, a hash
-- ARGV[1] generation of the permit
-- ARGV[2] token of the permit
-- ARGV[3] outcome: ok | fail | neutral
-- ARGV[4] failures in a row that open
-- ARGV[5] recovery time after opening, µs
-- ARGV[6] life time of the hash, ms
-- ARGV[7] what failed, for operators
-- Reply: applied | stale | repeated; state before; state after.
-- Source: our own; see acquire.lua.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local token, outcome = ARGV[2], ARGV[3]
local stored = redis.call('HMGET', KEYS[1], 'state', 'generation', 'streak', 'probe')
local state, generation = stored[1] or 'closed', tonumber(stored[2])
local streak, probe = stored[3] or '', stored[4]

if not generation or generation ~= tonumber(ARGV[1]) or state == 'open' then
  return { 'stale', state, state }
end
if state == 'half-open' and probe ~= token then
  return { 'stale', state, state }
end

local function enter(next_state, ...)
  redis.call('HSET', KEYS[1], 'state', next_state,
    'generation', string.format('%.0f', math.max(generation + 1, now)), ...)
  redis.call('HDEL', KEYS[1], 'streak', 'probe', 'probe_until')
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
  return { 'applied', state, next_state }
end

local function open()
  return enter('open', 'open_until', string.format('%.0f', now + tonumber(ARGV[5])),
    'error', ARGV[7], 'opened_at', string.format('%.0f', now))
end

if state == 'half-open' then
  if outcome == 'ok' then
    return enter('closed')
  elseif outcome == 'fail' then
    return open()
  end
  -- No verdict: the next caller may probe at once.
  redis.call('HDEL', KEYS[1], 'probe', 'probe_until')
  return { 'applied', state, state }
end

if outcome == 'ok' then
  redis.call('HDEL', KEYS[1], 'streak')
elseif outcome == 'fail' then
  -- A set of attempts, so that a report sent again does not count again.
  if string.find(' ' .. streak .. ' ', ' ' .. token .. ' ', 1, true) then
    return { 'repeated', state, state }
  end
  streak = streak == '' and token or streak .. ' ' .. token
  local _, spaces = string.gsub(streak, ' ', '')
  if spaces + 1 >= tonumber(ARGV[4]) then
    return open()
  end
  redis.call('HSET', KEYS[1], 'streak', streak)
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
end
return { 'applied', state, state }
