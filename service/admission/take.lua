-- Decide whether a request may pass all its limits, and charge all of them or none.
--
-- Invariant: over every interval of time T, the cost charged to one bucket is at most
--   burst + T / emission interval. A denied request changes nothing.
-- KEYS[i]         bucket i: its theoretical arrival time, integer µs of server time; no key: full
-- ARGV[4 * i - 3] emission interval of bucket i, µs
-- ARGV[4 * i - 2] burst of bucket i, tokens
-- ARGV[4 * i - 1] cost to bucket i, tokens, at most its burst
-- ARGV[4 * i]     1: on trial (charged if it has room, never denies), 0: enforced
-- Reply: server time in µs; 1 allowed or 0 denied; then for each bucket its arrival time in µs
--   after the decision, and 1 if it had room for the cost or 0 if not.
-- Source: generic cell rate algorithm, virtual scheduling form (ITU-T I.371 annex A).

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local allowed = 1
local current, charged, fits = {}, {}, {}

for i = 1, #KEYS do
  local interval = tonumber(ARGV[4 * i - 3])
  local capacity = interval * tonumber(ARGV[4 * i - 2])
  local stored = tonumber(redis.call('GET', KEYS[i]) or now)
  -- A lowered burst or a clock set back leaves an arrival beyond empty.
  current[i] = math.min(math.max(stored, now), now + capacity)
  charged[i] = current[i] + tonumber(ARGV[4 * i - 1]) * interval
  fits[i] = charged[i] - capacity <= now and 1 or 0
  if fits[i] == 0 and ARGV[4 * i] ~= '1' then
    allowed = 0
  end
end

local reply = { now, allowed }
for i = 1, #KEYS do
  if allowed == 1 and fits[i] == 1 then
    current[i] = charged[i]
    -- Gone exactly when full: a missing key means a full bucket. %.0f keeps every digit.
    redis.call('SET', KEYS[i], string.format('%.0f', charged[i]),
      'PXAT', string.format('%.0f', math.ceil(charged[i] / 1000)))
  end
  reply[#reply + 1] = current[i]
  reply[#reply + 1] = fits[i]
end
return reply
