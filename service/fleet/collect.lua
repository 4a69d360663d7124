-- Read what all live workers have told last.
--
-- Invariant: nothing is written; a worker whose life has ended is not among them.
-- KEYS[1] sorted set of workers by the end of their life, ms of server time
-- KEYS[2] hash of their reports
-- ARGV[1] life of a report, ms
-- Reply: for each its report and its age in ms, one after the other.
-- Source: our own.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local told = {}
local live = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf', 'WITHSCORES')
for i = 1, #live, 2 do
  local report = redis.call('HGET', KEYS[2], live[i])
  if report then
    told[#told + 1] = report
    told[#told + 1] = math.max(0, tonumber(ARGV[1]) - (tonumber(live[i + 1]) - now))
  end
end
return told
