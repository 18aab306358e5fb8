-- Take a part of a large fan-out off the shared queue and do it, in one step: a worker that dies
-- has either done it or not taken it. KEYS[2]: the queue. Answers 0 where there is none.

local job = call('LPOP', KEYS[2])
if not job then
  return 0
end
local epoch, field, previous, position, entry, prefix, members =
  struct.unpack('<' .. string.rep('I4c0', 7), job)
local state = call('HMGET', KEYS[1], 'e', field)
if state[1] ~= epoch or state[2] ~= previous then
  -- The worker that shared it died, and the one after it has gone past.
  return 1
end
local size = #entry
for i = 1, #members, 13 do
  local key = prefix .. string.sub(members, i, i + 12)
  local length = call('APPEND', key, entry)
  if length > LIMIT then
    trim(key, tonumber(position))
  elseif length == size then
    call('DEL', key)
  end
end
return 1
