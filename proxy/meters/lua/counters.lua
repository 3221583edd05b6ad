-- Raise one process's slot, and file by how much under a minute and an hour. Protocol: proxy/meters/slot.py.
-- Keys: slot hash, slots set, tombstone hashes of this slot and of the one before, then the periods' hashes of each raise
-- Argument: JSON {slot, expected, sequence, force, new, raises: [{keep_s: [for each of its periods], cells: {series:
--   vector}}]}; `force` writes wherever the slot stands, `new` only while the tombstone before is there
-- Answer: {'accepted'} | {'behind', sequence or nil} | {'folded', series, vector, ...}

local function file(key, keep_s, raised)
  for series, more in pairs(raised) do
    add_vector(key, series, more)
  end
  if redis.call('TTL', key) == -1 then
    redis.call('EXPIRE', key, keep_s)
  end
end

return function(keys, argument)
  local asked = cjson.decode(argument)
  if redis.call('EXISTS', keys[3]) == 1 then
    local reply = redis.call('HGETALL', keys[3])
    table.insert(reply, 1, 'folded')
    return reply
  end
  local sequence = redis.call('HGET', keys[1], '#sequence')
  if not asked.force and (sequence or '0') ~= asked.expected then
    return {'behind', sequence}
  end
  if asked.new and redis.call('EXISTS', keys[4]) == 0 then
    return {'behind', false}
  end
  redis.call('SADD', keys[2], asked.slot)
  local used = 4
  for _, one in ipairs(asked.raises) do
    local raised = {}
    for series, vector in pairs(one.cells) do
      raised[series] = raise_vector(keys[1], series, vector)
    end
    for i, keep_s in ipairs(one.keep_s) do
      if next(raised) then
        file(keys[used + i], keep_s, raised)
      end
    end
    used = used + #one.keep_s
  end
  if asked.sequence ~= (sequence or '0') then
    redis.call('HSET', keys[1], '#sequence', asked.sequence)
  end
  return {'accepted'}
end
