-- Publish one process's gauges for a while, and read everybody else's. Protocol: proxy/meters/gauges.py.
-- Keys: gauges hash
-- Argument: JSON {ttl_ms, shown: JSON text {gauge: integer}}; without `shown`, this process's are withdrawn
-- Answer: the JSON texts of the others that have not expired

return function(keys, argument, context)
  local asked = cjson.decode(argument)
  if asked.shown then
    redis.call('HSET', keys[1], context.slot, integer(context.now + asked.ttl_ms) .. ' ' .. asked.shown)
  else
    redis.call('HDEL', keys[1], context.slot)
  end
  local all = redis.call('HGETALL', keys[1])
  local others = {}
  for i = 1, #all, 2 do
    if all[i] ~= context.slot then
      local space = string.find(all[i + 1], ' ', 1, true)
      local left = tonumber(string.sub(all[i + 1], 1, space - 1)) - context.now
      -- Nobody asks for a minute: so long a life means that the store's clock was set back.
      if left > 0 and left < 60000 then
        others[#others + 1] = string.sub(all[i + 1], space + 1)
      else
        redis.call('HDEL', keys[1], all[i])
      end
    end
  end
  return others
end
