-- Drop timelines that no longer hold, and store how far the partition is. KEYS[2..]: timelines.

local refused = refusal()
if refused then
  return refused
end
for i = 2, #KEYS do
  call('UNLINK', KEYS[i])
end
store_position()
return 1
