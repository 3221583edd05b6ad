-- Raise counters in one process's slot and mark the process alive. Protocol: proxy/meters/slot.py.
-- KEYS: slot hash, members zset, tombstone hash of this slot
-- ARGV: slot id, expected sequence, next sequence, 1 to write wherever the slot stands, JSON {field: decimal string}
-- Reply: {'accepted'} | {'behind'} | {'folded', field, value, ...}

-- Non-negative decimal strings compare by length, then by digits: Lua's own numbers are exact only below 2^53.
local function greater(a, b)
  return #a > #b or (#a == #b and a > b)
end

if redis.call('EXISTS', KEYS[3]) == 1 then
  local reply = redis.call('HGETALL', KEYS[3])
  table.insert(reply, 1, 'folded')
  return reply
end
if ARGV[4] ~= '1' and (redis.call('HGET', KEYS[1], '#sequence') or '0') ~= ARGV[2] then
  return {'behind'}
end
for field, value in pairs(cjson.decode(ARGV[5])) do
  local before = redis.call('HGET', KEYS[1], field)
  if not before or greater(value, before) then
    redis.call('HSET', KEYS[1], field, value)
  end
end
redis.call('HSET', KEYS[1], '#sequence', ARGV[3])
local time = redis.call('TIME')
redis.call('ZADD', KEYS[2], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
return {'accepted'}
