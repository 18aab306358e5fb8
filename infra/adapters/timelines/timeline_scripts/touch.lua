-- Keep a timeline that was read for another while. KEYS: the timeline, the members by when they
-- last read. ARGV: seconds to live, now in seconds, member.

local header = redis.call('GETRANGE', KEYS[1], 0, 7)
if #header < 8 or string.byte(header, 8) >= 128 then
  return 0
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[3])
return 1
