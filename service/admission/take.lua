-- Decide how many of several like requests may pass all their limits, and charge just those.
--
-- Invariant: over every interval of time T, the cost charged to one bucket is at most
--   burst + T / emission interval. A denied request changes nothing.
-- KEYS[i]         bucket i: its theoretical arrival time, integer µs of server time; no key: full
-- ARGV[1]         server time in µs; 0: ask the clock here (exact; the other way is for servers
--                 that refuse TIME in scripts)
-- ARGV[2]         how many requests ask; 0: look only, write nothing
-- ARGV[3 * i]     price of one request in bucket i: its cost times the emission interval, µs
-- ARGV[3 * i + 1] capacity of bucket i: its burst times the emission interval, µs
-- ARGV[3 * i + 2] 1: on trial (charged if it has room, never denies), 0: enforced
-- Reply: server time in µs; how many requests were granted; then for each bucket its arrival time
--   in µs before them, and for how many of those that asked it had room.
-- Source: generic cell rate algorithm, virtual scheduling form (ITU-T I.371 annex A).

local now = tonumber(ARGV[1])
if now == 0 then
  local clock = redis.call('TIME')
  now = clock[1] * 1000000 + clock[2]
end
local asked = tonumber(ARGV[2])
local granted = asked
local current, price, room = {}, {}, {}

for i = 1, #KEYS do
  price[i] = tonumber(ARGV[3 * i])
  current[i] = math.max(tonumber(redis.call('GET', KEYS[i]) or now), now)
  -- Whole numbers below 2^53 divide exactly enough for floor.
  local fitting = math.floor((now + tonumber(ARGV[3 * i + 1]) - current[i]) / price[i])
  room[i] = math.min(math.max(fitting, 0), asked)
  if ARGV[3 * i + 2] ~= '1' then
    granted = math.min(granted, room[i])
  end
end

local reply = { now, granted }
for i = 1, #KEYS do
  local charged = math.min(granted, room[i])
  if charged > 0 then
    local arrival = current[i] + charged * price[i]
    -- Gone exactly when full: a missing key means a full bucket. %.0f keeps every digit.
    redis.call('SET', KEYS[i], string.format('%.0f', arrival),
      'PXAT', string.format('%.0f', math.ceil(arrival / 1000)))
  end
  reply[#reply + 1] = current[i]
  reply[#reply + 1] = room[i]
end
return reply
