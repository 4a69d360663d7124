-- Take the outcome of a permitted call into account.
--
-- Invariant: a report of an older generation, or of a probe whose lease was taken over, changes
--   nothing; the same report twice counts once; threshold failures with no success between open.
--   Each new generation is one event.
-- KEYS[1] the breaker, a hash
-- KEYS[2] its events: a capped stream, and the channel of the same name
-- ARGV[1] generation of the permit
-- ARGV[2] token of the permit
-- ARGV[3] outcome: ok | fail | neutral
-- ARGV[4] what counts once in a row of failures: the attempt or the request, a word
-- ARGV[5] failures in a row that open
-- ARGV[6] recovery time after opening, µs
-- ARGV[7] what failed, for operators
-- ARGV[8] worker that reports
-- ARGV[9] life time of both keys, ms
-- ARGV[10] events kept
-- Reply: applied | stale | repeated; the transitions made, each from, to, cause.
-- Source: our own; see acquire.lua.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local token, outcome, member = ARGV[2], ARGV[3], ARGV[4]
local stored = redis.call('HMGET', KEYS[1], 'state', 'generation', 'streak', 'probe', 'force')
local state, generation = stored[1] or 'closed', tonumber(stored[2] or 0)
local streak, probe, force = stored[3] or '', stored[4], stored[5]

-- Under a force, also one that is over and not yet cleared, only forced permits are about.
if generation ~= tonumber(ARGV[1]) or state == 'open' or force then
  return { 'stale', {} }
end
if state == 'half-open' and probe ~= token then
  return { 'stale', {} }
end

local function move(to, cause, ...)
  generation = math.max(generation + 1, now)
  local text = string.format('%.0f', generation)
  redis.call('HSET', KEYS[1], 'state', to, 'generation', text, ...)
  redis.call('HDEL', KEYS[1], 'streak', 'probe', 'probe_until', 'probe_for')
  redis.call('PEXPIRE', KEYS[1], ARGV[9])
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[10], '*', 'from', state, 'to', to,
    'generation', text, 'cause', cause, 'worker', ARGV[8], 'detail', ARGV[7])
  redis.call('PEXPIRE', KEYS[2], ARGV[9])
  redis.call('PUBLISH', KEYS[2], state .. ' ' .. to .. ' ' .. text .. ' ' .. cause)
  return { 'applied', { { state, to, cause } } }
end

local function open(cause)
  return move('open', cause, 'error', ARGV[7], 'open_for', ARGV[6],
    'open_until', string.format('%.0f', now + tonumber(ARGV[6])))
end

if state == 'half-open' then
  if outcome == 'ok' then
    return move('closed', 'probe-ok')
  elseif outcome == 'fail' then
    return open('probe-failed')
  end
  -- No verdict: the next caller may probe at once.
  redis.call('HDEL', KEYS[1], 'probe', 'probe_until', 'probe_for')
  return { 'applied', {} }
end

if outcome == 'ok' then
  redis.call('HDEL', KEYS[1], 'streak')
elseif outcome == 'fail' then
  -- A set, so that a report sent again does not count again.
  if string.find(' ' .. streak .. ' ', ' ' .. member .. ' ', 1, true) then
    return { 'repeated', {} }
  end
  streak = streak == '' and member or streak .. ' ' .. member
  local _, spaces = string.gsub(streak, ' ', '')
  if spaces + 1 >= tonumber(ARGV[5]) then
    return open('failures')
  end
  redis.call('HSET', KEYS[1], 'streak', streak)
  redis.call('PEXPIRE', KEYS[1], ARGV[9])
end
return { 'applied', {} }
