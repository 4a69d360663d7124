-- Take in what one worker tells of itself, and say whether a sample of the fleet is due.
--
-- Invariant: only workers whose life has not ended have a report, and at most ARGV[5] of them.
-- KEYS[1] sorted set of workers by the end of their life, ms of server time
-- KEYS[2] hash of their reports
-- KEYS[3] stream of samples of the whole fleet
-- KEYS[4] the salt under which this fleet hashes principals, where no secret is set
-- ARGV[1] id of this worker
-- ARGV[2] its report; empty: it leaves
-- ARGV[3] life of a report, ms
-- ARGV[4] time between samples, ms
-- ARGV[5] most workers
-- ARGV[6] salt to use if there is none
-- ARGV[7] life of the salt, ms
-- Reply: 1 if a sample is due, else 0; the salt.
-- Source: our own.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local id, report, life = ARGV[1], ARGV[2], tonumber(ARGV[3])

for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))) do
  redis.call('ZREM', KEYS[1], dead)
  redis.call('HDEL', KEYS[2], dead)
end
if report == '' then
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
elseif redis.call('ZSCORE', KEYS[1], id) or redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[5]) then
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + life), id)
  redis.call('HSET', KEYS[2], id, report)
  redis.call('PEXPIRE', KEYS[1], life)
  redis.call('PEXPIRE', KEYS[2], life)
end

redis.call('SET', KEYS[4], ARGV[6], 'NX')
redis.call('PEXPIRE', KEYS[4], ARGV[7])

local due = 1
local newest = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)
if newest[1] then
  -- A clock set back (a new primary's) must not stop the samples.
  local age = now - tonumber(string.match(newest[1][1], '^%d+'))
  due = (age >= 0 and age < tonumber(ARGV[4])) and 0 or 1
end
return { due, redis.call('GET', KEYS[4]) }
