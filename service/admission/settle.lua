-- After an outage: charge what a worker admitted by itself, and recall what the server forgot.
--
-- Invariant: a bucket is left with no more tokens than before, and never below empty by this.
-- KEYS[1] the bucket: its theoretical arrival time, integer µs of server time; no key: full
-- ARGV[1] server time in µs; 0: ask the clock here
-- ARGV[2] µs by which the arrival time that the worker heard of another server is ahead of now;
--         0: nothing is to be recalled
-- ARGV[3] price of what the worker admitted, µs
-- ARGV[4] capacity of the bucket, µs
-- Reply: 1 if the bucket was changed, else 0.
-- Source: our own.

local now = tonumber(ARGV[1])
if now == 0 then
  local clock = redis.call('TIME')
  now = clock[1] * 1000000 + clock[2]
end

local stored = tonumber(redis.call('GET', KEYS[1]) or now)
local current = math.max(stored, now + tonumber(ARGV[2]))
local empty = now + tonumber(ARGV[4])
local arrival = math.max(current, math.min(current + tonumber(ARGV[3]), empty))
if arrival > now then
  redis.call('SET', KEYS[1], string.format('%.0f', arrival),
    'PXAT', string.format('%.0f', math.ceil(arrival / 1000)))
  return 1
end
return 0
