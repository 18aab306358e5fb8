-- Append one entry to timelines, and store how far the partition is.
-- KEYS[2..]: timelines. ARGV[6]: the entry's slots; ARGV[7]: its position.
-- Answers 1, or the places (from 0) of keys under which there is no timeline.

local refused = refusal()
if refused then
  return refused
end
local entry = ARGV[6]
local size = #entry
local gone
for i = 2, #KEYS do
  local length = call('APPEND', KEYS[i], entry)
  if length > LIMIT then
    trim(KEYS[i], tonumber(ARGV[7]))
  elseif length == size then
    call('DEL', KEYS[i])
    gone = gone or {}
    gone[#gone + 1] = i - 2
  end
end
store_position()
return gone or 1
