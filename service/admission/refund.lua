-- Give back what requests were charged that did not use it.
--
-- Invariant: a bucket never holds more than its burst.
-- KEYS[i]     bucket i: its theoretical arrival time, integer µs of server time; no key: full
-- ARGV[1]     server time in µs; 0: ask the clock here
-- ARGV[i + 1] price to give back to bucket i, µs
-- Reply: the number of buckets that took something back.
-- Source: generic cell rate algorithm, virtual scheduling form (ITU-T I.371 annex A).

local now = tonumber(ARGV[1])
if now == 0 then
  local clock = redis.call('TIME')
  now = clock[1] * 1000000 + clock[2]
end

local changed = 0
for i = 1, #KEYS do
  local stored = tonumber(redis.call('GET', KEYS[i]) or now)
  if stored > now then
    local arrival = stored - tonumber(ARGV[i + 1])
    if arrival > now then
      redis.call('SET', KEYS[i], string.format('%.0f', arrival),
        'PXAT', string.format('%.0f', math.ceil(arrival / 1000)))
    else
      redis.call('DEL', KEYS[i])
    end
    changed = changed + 1
  end
end
return changed
