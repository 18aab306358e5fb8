-- Put graves in the place of entries that can never be shown again, where they still stand.
-- KEYS[1]: a timeline. ARGV: threes of offset, the entry's slots, the grave. Answers how many.

local buried = 0
for i = 1, #ARGV, 3 do
  local from = tonumber(ARGV[i])
  if redis.call('GETRANGE', KEYS[1], from, from + #ARGV[i + 1] - 1) == ARGV[i + 1] then
    redis.call('SETRANGE', KEYS[1], from, ARGV[i + 2])
    buried = buried + 1
  end
end
return buried
