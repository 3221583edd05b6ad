-- Add the slot of a process that has been silent for too long to the base, exactly once, and leave a tombstone with what
-- it held, so that the process, should it return, does not count it again. Protocol: proxy/meters/slot.py.
-- The functions of numbers.lua are put in front of this text by proxy/meters/store.py.
-- KEYS: slot hash, slots zset, tombstone hash of this slot, base hash
-- ARGV: slot id, silence in ms after which a slot is dead, how long the tombstone is kept in ms
-- Reply: 1 when folded, 0 when somebody else did, or it is alive after all

local heard = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not heard then
  return 0
end
if milliseconds() - heard < tonumber(ARGV[2]) then
  return 0
end
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  if fields[i] ~= '#sequence' then
    redis.call('HINCRBY', KEYS[4], fields[i], fields[i + 1])
  end
end
if #fields > 0 then
  redis.call('RENAME', KEYS[1], KEYS[3])
else
  redis.call('HSET', KEYS[3], '#sequence', 0)
end
redis.call('PEXPIRE', KEYS[3], ARGV[3])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
