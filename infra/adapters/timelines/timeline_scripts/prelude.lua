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
-- More than a list ever has slots.
local PLACES = 4096

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
local function in_order(value, slots, count, reference)
  -- Each entry as one number that sorts by age, then by place; its place can be told from it.
  local order = {}
  local at = 1
  while at <= count do
    local age = (reference - slots[at] % REPOST) % REPOST
    order[#order + 1] = (REPOST - 1 - age) * PLACES + at
    at = at + (slots[at] >= REPOST and 2 or 1)
  end
  table.sort(order)
  local kept = {}
  local left = KEEP
  local i = #order
  while i > 0 and left > 0 do
    local place = order[i] % PLACES
    local older = order[i - 1]
    if not older or slots[place] % REPOST ~= slots[older % PLACES] % REPOST then
      local length = slots[place] >= REPOST and 2 or 1
      kept[left] = string.sub(value, 5 + 4 * place, 4 + 4 * (place + length))
      left = left - 1
    end
    i = i - 1
  end
  return table.concat(kept, '', left + 1, KEEP)
end

-- The slots before the newest entries to keep, and the oldest of those; nothing if an entry is out
-- of order or there twice.
local function before_kept(slots, count)
  local at, left, last = count, KEEP, REPOST
  while at > 0 and left > 0 do
    local position = slots[at]
    local head = slots[at - 1]
    if head and head >= REPOST then
      position = head - REPOST
      at = at - 1
    end
    if position >= last then
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
    call('SET', key, header .. in_order(value, slots, count, reference), 'KEEPTTL')
  end
end
