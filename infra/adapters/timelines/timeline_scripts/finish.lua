-- Put what was pulled into a begun timeline, before what was pushed to it meanwhile.
-- KEYS[1]: the timeline. ARGV: placeholder, header, slots, seconds to live, build position.
-- Answers 0 if it was dropped meanwhile: then what was pulled may no longer hold.

if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then
  return 0
end
local REPOST = 2147483648
local SPAN = 1073741824
local value = redis.call('GET', KEYS[1])
local kept = {ARGV[2], ARGV[3]}
local at = 9
while at <= #value do
  local slot = struct.unpack('<I4', value, at)
  local length = 4
  if slot >= REPOST then
    length = 8
  end
  -- What is not after the build position is in the slots already.
  local after = (slot - tonumber(ARGV[5])) % REPOST
  if after > 0 and after < SPAN then
    kept[#kept + 1] = string.sub(value, at, at + length - 1)
  end
  at = at + length
end
redis.call('SET', KEYS[1], table.concat(kept), 'EX', ARGV[4])
return 1
