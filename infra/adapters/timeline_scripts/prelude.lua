-- What the scripts that apply events share. KEYS[1] is the state, a hash:
--   e  the epoch, which is part of the name of every other key
--   n  how many timelines have ever been begun in this epoch
--   g  how often an account was promoted or demoted; v  is 'epoch:g', for readers
--   p0 p1 ...  up to which position each partition has been applied
-- ARGV: epoch, partition's field, the position that must have been applied,
--   the position that is applied with this step ('' for none),
--   how many begun timelines the caller knows of ('' where that does not matter)

local call = redis.call

-- Keep what is read; trim when as much again has come, since trimming is dear, and since a string
-- that was appended to has room for that anyway.
local KEEP = 800
local LIMIT = 8 + 4 * 1600
local REPOST = 2147483648
local SPAN = 1073741824
-- Partitions are not applied in step: an entry may be newer than the one being pushed.
local AHEAD = 1048576

local function refusal()
  local state = call('HMGET', KEYS[1], 'e', ARGV[2], 'n')
  if state[1] ~= ARGV[1] or state[2] ~= ARGV[3] then
    return 'moved'
  end
  if ARGV[5] ~= '' and state[3] ~= ARGV[5] then
    return 'stale'
  end
  return nil
end

local function store_position()
  if ARGV[4] ~= '' then
    call('HSET', KEYS[1], ARGV[2], ARGV[4])
  end
end

local FORMAT = '<' .. string.rep('I4', 200)

-- All slots from a byte on.
local function unpacked(value, from)
  local slots = {}
  local count = 0
  for at = from, #value, 800 do
    local part
    if #value - at >= 799 then
      part = {struct.unpack(FORMAT, value, at)}
      part[201] = nil
    else
      part = {struct.unpack('<' .. string.rep('I4', (#value - at + 1) / 4), value, at)}
      part[#part] = nil
    end
    for i = 1, #part do
      slots[count + i] = part[i]
    end
    count = count + #part
  end
  return slots, count
end

local function header_at(position)
  return struct.pack('<I4I4', position % 4294967296, math.floor(position / 4294967296))
end

-- Entries that came out of order or twice: the newest, each once, oldest first.
local function in_order(value, slots, reference)
  local entries = {}
  local newest = REPOST
  local at = 1
  while at <= #slots do
    local length = 1
    if slots[at] >= REPOST then
      length = 2
    end
    local position = slots[at] % REPOST
    -- A grave is as old as the newest entry that lies before it.
    local age = newest
    if position ~= 0 then
      age = (reference - position) % REPOST
      newest = math.min(newest, age)
    end
    entries[#entries + 1] = {age, at, string.sub(value, 5 + 4 * at, 4 + 4 * (at + length)), position}
    at = at + length
  end
  table.sort(entries, function(one, other)
    if one[1] ~= other[1] then
      return one[1] > other[1]
    end
    return one[2] < other[2]
  end)
  local kept = {}
  for i = #entries, 1, -1 do
    local entry = entries[i]
    local next_older = entries[i - 1]
    local twice = next_older and entry[4] ~= 0 and next_older[4] == entry[4]
    if not twice then
      kept[#kept + 1] = entry[3]
      if #kept == KEEP then
        break
      end
    end
  end
  local backwards = {}
  for i = #kept, 1, -1 do
    backwards[#backwards + 1] = kept[i]
  end
  return table.concat(backwards)
end

-- The slots before the newest entries to keep, and the oldest of those; nothing if an entry is out
-- of order, there twice, or a grave.
local function before_kept(slots, count)
  local at, left, last = count, KEEP, REPOST
  while at > 0 and left > 0 do
    local position = slots[at]
    local head = slots[at - 1]
    if head and head >= REPOST then
      position = head - REPOST
      at = at - 1
    end
    if position >= last or position == 0 then
      return nil
    end
    last = position
    left = left - 1
    at = at - 1
  end
  return at, last
end

local function trim(key, position)
  local value = call('GET', key)
  local slots, count = unpacked(value, 9)
  local header = string.sub(value, 1, 8)
  local before, oldest = before_kept(slots, count)
  if before then
    -- A list whose entries are all recent may be read for as long again.
    if (position + AHEAD - oldest) % REPOST < SPAN and string.byte(header, 8) < 128 then
      header = header_at(position)
    end
    call('SET', key, header .. string.sub(value, 9 + 4 * before), 'KEEPTTL')
  else
    local reference = (position + AHEAD) % REPOST
    call('SET', key, header .. in_order(value, slots, reference), 'KEEPTTL')
  end
end
