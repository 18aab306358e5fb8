-- An account's entries go to its followers' timelines again. Those lack what its own list held, so
-- the caller has dropped all of them.
-- KEYS: state, the account's list, the set of such accounts. ARGV[6]: the account.

local refused = refusal()
if refused then
  return refused
end
call('UNLINK', KEYS[2])
if call('SREM', KEYS[3], ARGV[6]) == 1 then
  call('HSET', KEYS[1], 'v', ARGV[1] .. ':' .. call('HINCRBY', KEYS[1], 'g', 1))
end
store_position()
return 1
