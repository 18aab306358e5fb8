-- Start an epoch: nothing is kept under its keys yet, so any positions are right.
-- KEYS[1]: state. ARGV: the epoch it replaces ('' where there is none), the new one, then fields
-- and positions of all partitions. Answers 0 if somebody else was first.

if (redis.call('HGET', KEYS[1], 'e') or '') ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'e', ARGV[2], 'n', 0, 'g', 0, 'v', ARGV[2] .. ':0', unpack(ARGV, 3))
return 1
