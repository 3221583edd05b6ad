-- Accrue GPU time up to the store's now, once per cluster. Theory: proxy/meters/gpu_hours.py.
-- Keys: GPU hash, with fields <sum>|<target>, and mark|<target>, carry|<target>
-- Argument: JSON {bridge_ms: longest gap that is bridged whole, shortest_ms: shortest interval worth writing, accruals}
-- Answer: for each target {target, replica_ms, busy_replica_ms, gpu_ms, nano_usd}

local SUMS = {'replica_ms', 'busy_replica_ms', 'gpu_ms', 'nano_usd'}
local MS_PER_HOUR = 3600000

local function restore(gpu, entry)
  for _, sum in ipairs(SUMS) do
    local field, seen = sum .. '|' .. entry.target, entry.seen[sum]
    local stored = redis.call('HGET', gpu, field) or '0'
    if greater(seen, stored) then
      redis.call('HSET', gpu, field, seen)
    end
  end
end

-- Whole nano-USD for `ms`; what is left of the division is carried to the next interval. The rate is split so that no
-- product leaves the range in which Lua's numbers are exact integers.
local function cost(gpu, entry, ms)
  local carry = redis.call('HGET', gpu, 'carry|' .. entry.target) or '0'
  local per_ms = math.floor(entry.nano_usd_per_hour / MS_PER_HOUR)
  local rest = (entry.nano_usd_per_hour % MS_PER_HOUR) * ms + carry
  redis.call('HSET', gpu, 'carry|' .. entry.target, integer(rest % MS_PER_HOUR))
  return per_ms * ms + math.floor(rest / MS_PER_HOUR)
end

local function add(gpu, sum, entry, amount)
  if amount > 0 then
    redis.call('HINCRBY', gpu, sum .. '|' .. entry.target, integer(amount))
  end
end

local function elapsed(gpu, entry, now, bridge_ms)
  local mark = redis.call('HGET', gpu, 'mark|' .. entry.target)
  if not mark then
    return entry.vouched_ms
  end
  local ms = now - mark
  if ms > bridge_ms then
    return math.min(ms, entry.vouched_ms)
  end
  return ms
end

return function(keys, argument, context)
  local gpu, now, asked = keys[1], context.now, cjson.decode(argument)
  local reply = {}
  for i, entry in ipairs(asked.accruals) do
    restore(gpu, entry)
    local ms = elapsed(gpu, entry, now, asked.bridge_ms)
    -- Below the shortest interval the mark stays, and the time is kept for the next caller. A clock set back moves it.
    if ms < 0 or ms >= asked.shortest_ms or redis.call('HEXISTS', gpu, 'mark|' .. entry.target) == 0 then
      redis.call('HSET', gpu, 'mark|' .. entry.target, integer(now))
      if ms > 0 then
        add(gpu, 'replica_ms', entry, ms * entry.replicas)
        add(gpu, 'busy_replica_ms', entry, ms * entry.busy_replicas)
        add(gpu, 'gpu_ms', entry, ms * entry.gpus)
        add(gpu, 'nano_usd', entry, cost(gpu, entry, ms))
      end
    end
    reply[i] = {entry.target}
    for _, sum in ipairs(SUMS) do
      reply[i][#reply[i] + 1] = redis.call('HGET', gpu, sum .. '|' .. entry.target) or '0'
    end
  end
  return reply
end
