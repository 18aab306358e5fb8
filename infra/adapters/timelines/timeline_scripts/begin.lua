-- Begin a timeline: from now on it is pushed to, and whoever began it may finish it.
-- KEYS: state, the timeline, the list of begun ones, the members by when they last read.
-- ARGV: epoch, placeholder, its seconds to live, member, now in seconds, length of the list,
--   fields of all partitions.
-- Answers how far each partition has been applied, or nothing if there is nothing to begin.

if redis.call('HGET', KEYS[1], 'e') ~= ARGV[1] then
  return 0
end
if not redis.call('SET', KEYS[2], ARGV[2], 'NX', 'EX', ARGV[3]) then
  return 0
end
redis.call('RPUSH', KEYS[3], ARGV[4])
redis.call('LTRIM', KEYS[3], -tonumber(ARGV[6]), -1)
redis.call('ZADD', KEYS[4], ARGV[5], ARGV[4])
redis.call('HINCRBY', KEYS[1], 'n', 1)
return redis.call('HMGET', KEYS[1], unpack(ARGV, 7))
