-- Show what the next caller would meet, and change nothing.
--
-- Invariant: no write.
-- KEYS[1] the breaker, a hash
-- Reply: state closed | open | half-open as a caller meets it (open whose recovery is over is
--   half-open); generation (0: never used); failures in a row; ms until asking is worth while;
--   force open | closed, or empty; ms until the force is over; by whom; why; what failed last.
-- Source: our own; see acquire.lua.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local stored = redis.call('HMGET', KEYS[1], 'state', 'generation', 'force', 'streak',
  'open_until', 'open_for', 'probe_until', 'probe_for',
  'pause_until', 'pause_for', 'force_until', 'force_for', 'forced_by', 'forced_why', 'error')
local state, force, streak = stored[1] or 'closed', stored[3], stored[4] or ''

local function left(at)
  local left_us = math.min(tonumber(stored[at] or 0) - now, tonumber(stored[at + 1] or 0))
  return math.max(0, math.ceil(left_us / 1000))
end

local wait, held = left(9), force and left(11) or 0
if state == 'open' then
  wait = math.max(wait, left(5))
elseif state == 'half-open' then
  wait = math.max(wait, left(7))
end
if held > 0 then
  state = force
  wait = force == 'open' and math.max(wait, held) or 0
else
  force = ''
  if state == 'open' and left(5) == 0 then
    state = 'half-open'
  end
end

local _, words = string.gsub(streak, '%S+', '')
return { state, tonumber(stored[2] or 0), words, wait, force, held,
  held > 0 and stored[13] or '', held > 0 and stored[14] or '', stored[15] or '' }
