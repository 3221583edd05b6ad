-- Vectors of counts, `v1,v2,...`; what is missing at the end of one is zero. Theory: proxy/meters/vectors.py.

local function split(text)
  local values = {}
  for value in string.gmatch(text, '%d+') do
    values[#values + 1] = value
  end
  return values
end

-- What a hash holds under a name, raised to `given`, value by value; the answer is by how much, nil when by nothing.
local function raise_vector(key, name, given)
  local stored = redis.call('HGET', key, name) or ''
  if stored == given then
    return nil
  end
  local values, raised, last = split(stored), {}, 0
  for i, value in ipairs(split(given)) do
    local before = values[i] or '0'
    if greater(value, before) then
      values[i], raised[i], last = value, minus(value, before), i
    else
      values[i], raised[i] = before, '0'
    end
  end
  if last == 0 then
    return nil
  end
  redis.call('HSET', key, name, table.concat(values, ','))
  return table.concat(raised, ',', 1, last)
end

local function add_vector(key, name, more)
  local values = split(redis.call('HGET', key, name) or '')
  for i, value in ipairs(split(more)) do
    values[i] = plus(values[i] or '0', value)
  end
  redis.call('HSET', key, name, table.concat(values, ','))
end
