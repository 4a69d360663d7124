-- Keep a sample of the whole fleet, unless another worker was quicker.
--
-- Invariant: at most one sample in each interval, and no more than ARGV[3] of them.
-- KEYS[1] stream of samples
-- ARGV[1] the sample
-- ARGV[2] time between samples, ms
-- ARGV[3] samples kept
-- ARGV[4] life of the stream after the last one, ms
-- Reply: 1 kept, 0 another one was.
-- Source: our own.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if newest[1] then
  local at = tonumber(string.match(newest[1][1], '^%d+'))
  if at > now then
    -- A clock set back (a new primary's): what it calls the future is of no use any more.
    redis.call('DEL', KEYS[1])
  elseif now - at < tonumber(ARGV[2]) then
    return 0
  end
end
redis.call('XADD', KEYS[1], 'MAXLEN', '=', ARGV[3], string.format('%.0f-0', now), 'sample', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
