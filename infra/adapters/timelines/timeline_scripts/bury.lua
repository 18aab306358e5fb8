-- Put graves in the place of entries that can never be shown again.
-- KEYS[1]: a timeline. ARGV: threes of an entry's first byte, its slots and its grave, in order.
-- Answers how many; 0 if the timeline is not what it was.

local value = redis.call('GET', KEYS[1])
local kept = {}
local from = 1
for i = 1, #ARGV, 3 do
  local first = tonumber(ARGV[i]) + 1
  local last = first + #ARGV[i + 1] - 1
  if not value or string.sub(value, first, last) ~= ARGV[i + 1] then
    return 0
  end
  kept[#kept + 1] = string.sub(value, from, first - 1)
  kept[#kept + 1] = ARGV[i + 2]
  from = last + 1
end
kept[#kept + 1] = string.sub(value, from)
redis.call('SET', KEYS[1], table.concat(kept), 'KEEPTTL')
return #ARGV / 3
