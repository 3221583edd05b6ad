-- After a wipe: put back what one process remembers of the base and of all slots, as they were at one instant. Only the
-- first to come does, and nothing that is there is touched: who lives has told it better, or will.
-- The functions of numbers.lua are put in front of this text by proxy/meters/store.py.
-- KEYS: meta hash, slots set, base hash, then slot hashes
-- ARGV: the fields and values of the base and of each slot, each as a JSON list; then the slots' names, as one
-- Reply: how many hashes were put back

local run = redis.call('HGET', KEYS[1], 'run')
if not run or redis.call('HGET', KEYS[1], 'restored') == run then
  return 0
end
redis.call('HSET', KEYS[1], 'restored', run)
local names, count = cjson.decode(ARGV[#ARGV]), 0
for i = 3, #KEYS do
  local flat = cjson.decode(ARGV[i - 2])
  if #flat > 0 and redis.call('EXISTS', KEYS[i]) == 0 then
    for field = 1, #flat, 2 do
      redis.call('HSET', KEYS[i], flat[field], flat[field + 1])
    end
    if i > 3 then
      redis.call('SADD', KEYS[2], names[i - 3])
    end
    count = count + 1
  end
end
return count
