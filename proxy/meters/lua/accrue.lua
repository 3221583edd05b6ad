-- Accrue GPU time up to the store's now, once per cluster. Theory: proxy/meters/gpu_hours.py.
-- KEYS: GPU hash, with fields <sum>|<target>, and mark|<target>, carry|<target>
-- ARGV: longest gap that is bridged whole, shortest interval worth writing (both ms), JSON list of accruals
-- Reply: for each target {target, replica_ms, busy_replica_ms, gpu_ms, nano_usd}

local SUMS = {'replica_ms', 'busy_replica_ms', 'gpu_ms', 'nano_usd'}
local MS_PER_HOUR = 3600000

local function greater(a, b)
  return #a > #b or (#a == #b and a > b)
end

local function integer(x)
  return string.format('%.0f', x)
end

local function restore(entry)
  for _, sum in ipairs(SUMS) do
    local field, seen = sum .. '|' .. entry.target, entry.seen[sum]
    local stored = redis.call('HGET', KEYS[1], field) or '0'
    if greater(seen, stored) then
      redis.call('HSET', KEYS[1], field, seen)
    end
  end
end

-- Whole nano-USD for `ms`; what is left of the division is carried to the next interval. The rate is split so that no
-- product leaves the range in which Lua's numbers are exact integers.
local function cost(entry, ms)
  local carry = redis.call('HGET', KEYS[1], 'carry|' .. entry.target) or '0'
  local per_ms = math.floor(entry.nano_usd_per_hour / MS_PER_HOUR)
  local rest = (entry.nano_usd_per_hour % MS_PER_HOUR) * ms + carry
  redis.call('HSET', KEYS[1], 'carry|' .. entry.target, integer(rest % MS_PER_HOUR))
  return per_ms * ms + math.floor(rest / MS_PER_HOUR)
end

local function add(sum, entry, amount)
  if amount > 0 then
    redis.call('HINCRBY', KEYS[1], sum .. '|' .. entry.target, integer(amount))
  end
end

local function elapsed(entry, now)
  local mark = redis.call('HGET', KEYS[1], 'mark|' .. entry.target)
  if not mark then
    return entry.vouched_ms
  end
  local ms = now - mark
  if ms > tonumber(ARGV[1]) then
    return math.min(ms, entry.vouched_ms)
  end
  return ms
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reply = {}
for i, entry in ipairs(cjson.decode(ARGV[3])) do
  restore(entry)
  local ms = elapsed(entry, now)
  -- Below the shortest interval the mark stays, and the time is kept for the next caller. A clock set back moves it.
  if ms < 0 or ms >= tonumber(ARGV[2]) or redis.call('HEXISTS', KEYS[1], 'mark|' .. entry.target) == 0 then
    redis.call('HSET', KEYS[1], 'mark|' .. entry.target, integer(now))
    if ms > 0 then
      add('replica_ms', entry, ms * entry.replicas)
      add('busy_replica_ms', entry, ms * entry.busy_replicas)
      add('gpu_ms', entry, ms * entry.gpus)
      add('nano_usd', entry, cost(entry, ms))
    end
  end
  reply[i] = {entry.target}
  for _, sum in ipairs(SUMS) do
    reply[i][#reply[i] + 1] = redis.call('HGET', KEYS[1], sum .. '|' .. entry.target) or '0'
  end
end
return reply
