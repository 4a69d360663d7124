-- Publish limits for the whole fleet, take them back, or restore what Redis has lost.
--
-- Invariant: the version only grows, so of two documents the later one holds everywhere.
-- KEYS[1] hash: version (µs of server time), document (empty: every worker's own files), author
-- KEYS[2] stream of changes by operators, capped
-- ARGV[1] version to restore, unless there is a later one; 0: publish under a new version
-- ARGV[2] document
-- ARGV[3] author
-- ARGV[4] changes kept
-- Reply: the version that holds now.
-- Source: last-writer-wins register.

local held = tonumber(redis.call('HGET', KEYS[1], 'version') or 0)
local version = tonumber(ARGV[1])

if version == 0 then
  local clock = redis.call('TIME')
  version = math.max(clock[1] * 1000000 + clock[2], held + 1)
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'author', ARGV[3],
    'change', ARGV[2] == '' and 'revert' or 'apply',
    'detail', string.format('version %.0f', version))
elseif version <= held then
  return held
end
redis.call('HSET', KEYS[1], 'version', string.format('%.0f', version),
  'document', ARGV[2], 'author', ARGV[3])
return version
