-- Keep values unless newer ones are there. KEYS: their names, and at last the list of counters.
-- ARGV: seconds to live (0: for good, but then only so many), how many, then the values. A value
-- begins with its position as eight bytes, the most significant first.
-- Answers how many were kept.

local seconds, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local order = KEYS[#KEYS]
local kept = 0
for i = 1, #KEYS - 1 do
  local new = ARGV[i + 2]
  local old = redis.call('GETRANGE', KEYS[i], 0, 7)
  local newer = #old < 8
  if not newer then
    local old_high, old_low = struct.unpack('>I4I4', old)
    local high, low = struct.unpack('>I4I4', new)
    newer = high > old_high or (high == old_high and low >= old_low)
  end
  if newer then
    kept = kept + 1
    if seconds > 0 then
      redis.call('SET', KEYS[i], new, 'EX', seconds)
    else
      redis.call('SET', KEYS[i], new)
      if #old < 8 and redis.call('RPUSH', order, KEYS[i]) > most then
        redis.call('UNLINK', redis.call('LPOP', order))
      end
    end
  end
end
return kept
