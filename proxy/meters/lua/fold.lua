-- Add the slot of a process that has been silent for too long to the base, exactly once, and leave a tombstone with what
-- it held, so that the process, should it return, does not count it again. Protocol: proxy/meters/slot.py.
-- The functions of numbers.lua and vectors.lua are put in front of this text by proxy/meters/store.py.
-- KEYS: slot hash, slots set, tombstone hash of this slot, base hash, members zset
-- ARGV: slot, its process, silence in ms after which it is dead, how long the tombstone is kept in ms, silence in ms
--   after which it is not alive
-- Reply: 1 when folded, 0 when somebody else did, or it is alive after all

local heard = redis.call('ZSCORE', KEYS[5], ARGV[2])
if not heard then
  -- Nobody knows since when: the store was wiped, and the slot put back or told of by an heir. Its silence begins now,
  -- since a tombstone that the next wipe takes away would not keep it from being counted again. It is not alive, though.
  redis.call('ZADD', KEYS[5], milliseconds() - tonumber(ARGV[5]), ARGV[2])
  return 0
end
if milliseconds() - heard < tonumber(ARGV[3]) then
  return 0
end
if redis.call('SREM', KEYS[2], ARGV[1]) == 0 then
  return 0
end
if heard == '0' then
  redis.call('ZREM', KEYS[5], ARGV[2])
end
local fields = redis.call('HGETALL', KEYS[1])
if #fields == 0 then
  return 1
end
for i = 1, #fields, 2 do
  if fields[i] ~= '#sequence' then
    add_vector(KEYS[4], fields[i], fields[i + 1])
  end
end
redis.call('RENAME', KEYS[1], KEYS[3])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
return 1
