-- From now on an account's entries go to a list of its own, which its followers merge at read.
-- KEYS: state, the list, the set of such accounts. ARGV[6]: header and slots; ARGV[7]: the account.

local refused = refusal()
if refused then
  return refused
end
call('SET', KEYS[2], ARGV[6])
if call('SADD', KEYS[3], ARGV[7]) == 1 then
  call('HSET', KEYS[1], 'v', ARGV[1] .. ':' .. call('HINCRBY', KEYS[1], 'g', 1))
end
store_position()
return 1
