-- Show what the next caller would meet, and change nothing.
--
-- Invariant: no write.
-- KEYS[1] the breaker, a hash
-- Reply: state closed | open | half-open as a caller meets it (open whose recovery is over is
--   half-open); generation (0: never used); failures in a row; ms until asking is worth while;
--   force open | closed, or empty.
-- Source: our own; see acquire.lua.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local stored = redis.call('HMGET', KEYS[1], 'state', 'generation', 'streak',
  'open_until', 'probe_until', 'pause_until', 'force', 'force_until')
local state, streak = stored[1] or 'closed', stored[3] or ''
local wait, force = 0, ''

if state == 'open' then
  wait = tonumber(stored[4]) - now
  state = wait > 0 and state or 'half-open'
elseif state == 'half-open' then
  wait = tonumber(stored[5] or 0) - now
end
wait = math.max(wait, tonumber(stored[6] or 0) - now)
if stored[7] and now < tonumber(stored[8]) then
  state, force = stored[7], stored[7]
  wait = force == 'open' and tonumber(stored[8]) - now or 0
end

local failures = 0
if streak ~= '' then
  local _, spaces = string.gsub(streak, ' ', '')
  failures = spaces + 1
end
return { state, tonumber(stored[2] or 0), failures, math.max(0, math.ceil(wait / 1000)), force }
