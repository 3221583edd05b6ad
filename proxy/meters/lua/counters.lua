-- Raise counters in one process's slot. Protocol: proxy/meters/slot.py.
-- Keys: slot hash, slots zset, tombstone hash of this slot
-- Argument: JSON {slot, expected, sequence, full, fields: {field: decimal string}}; `full` writes wherever the slot stands
-- Answer: {'accepted'} | {'behind'} | {'folded', field, value, ...}

return function(keys, argument, context)
  local asked = cjson.decode(argument)
  if redis.call('EXISTS', keys[3]) == 1 then
    local reply = redis.call('HGETALL', keys[3])
    table.insert(reply, 1, 'folded')
    return reply
  end
  if not asked.full and (redis.call('HGET', keys[1], '#sequence') or '0') ~= asked.expected then
    return {'behind'}
  end
  for field, value in pairs(asked.fields) do
    local before = redis.call('HGET', keys[1], field)
    if not before or greater(value, before) then
      redis.call('HSET', keys[1], field, value)
    end
  end
  redis.call('HSET', keys[1], '#sequence', asked.sequence)
  redis.call('ZADD', keys[2], context.now, asked.slot)
  return {'accepted'}
end
