-- Accrue GPU time up to the store's now, once per cluster. Theory: proxy/meters/gpu_hours.py.
-- Keys: GPU hash, with fields <sum>|<target>, mark|<target>, carry|<target> and busy_carry|<target> (what is left of the
--   divisions), open_from|<target> and open_to|<target>; the beginning of the names of the hours' hashes, with fields
--   <sum>|<target> (all in the slot of these two)
-- Argument: JSON {bridge_ms: longest gap that is bridged whole, shortest_ms: shortest interval worth writing,
--   step_ms: a larger difference of clocks is a step, keep_ms: how long an hour is kept, expected_ms: the caller's idea of
--   the time, accruals: [{target, vouched_ms, stepped_ms, seen_mark_ms, seen: sums, hours: {hour: sums},
--   pieces: [[from_ms, replicas, busy replicas, gpus, nano-USD an hour, of it for busy replicas], ...]}, ...]}; sums are
--   decimal strings
-- Answer: for each target {target, mark, {sums}, {hour, {sums}, hour, {sums}}}

local SUMS = {'replica_ms', 'busy_replica_ms', 'gpu_ms', 'nano_usd', 'busy_nano_usd'}
local MS_PER_HOUR = 3600000
local MS_PER_MINUTE = 60000

local function fields(target)
  local names = {}
  for i, sum in ipairs(SUMS) do
    names[i] = sum .. '|' .. target
  end
  return names
end

-- The hour of UTC as YYYYMMDDTHH; the date from days since 1970 by Howard Hinnant's `civil_from_days`.
local function hour_of(ms)
  local days = math.floor(ms / 86400000) + 719468
  local era = math.floor(days / 146097)
  local day = days - era * 146097
  local year = math.floor((day - math.floor(day / 1460) + math.floor(day / 36524) - math.floor(day / 146096)) / 365)
  local in_year = day - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local from_march = math.floor((5 * in_year + 2) / 153)
  local month = from_march < 10 and from_march + 3 or from_march - 9
  return string.format('%04d%02d%02dT%02d', year + era * 400 + (month <= 2 and 1 or 0), month,
    in_year - math.floor((153 * from_march + 2) / 5) + 1, math.floor(ms / MS_PER_HOUR) % 24)
end

local function raise(hash, names, seen)
  local stored = redis.call('HMGET', hash, unpack(names))
  for i, name in ipairs(names) do
    if greater(seen[i], stored[i] or '0') then
      redis.call('HSET', hash, name, seen[i])
    end
  end
end

-- The sums of whoever saw the most hold, and so does the time up to which they had been accrued: neither is counted
-- again. A mark that is yet to come is of a clock that was set back, and says nothing.
local function restore(gpu, hours, entry, now, keep_ms)
  raise(gpu, fields(entry.target), entry.seen)
  for hour, seen in pairs(entry.hours) do
    raise(hours .. hour, fields(entry.target), seen)
    redis.call('PEXPIRE', hours .. hour, keep_ms)
  end
  local mark = tonumber(redis.call('HGET', gpu, 'mark|' .. entry.target) or nil)
  local seen = entry.seen_mark_ms
  if seen > 0 and seen <= now and (not mark or seen > mark) then
    redis.call('HSET', gpu, 'mark|' .. entry.target, integer(seen))
    mark = seen
  end
  return mark
end

-- How much time is owed since the mark; nil when it is not worth writing, or the clock was set back by a moment.
local function owed(asked, entry, mark, now, step)
  if not mark then
    return entry.vouched_ms
  end
  local gap = now - mark
  if gap < asked.shortest_ms and gap >= -asked.step_ms then
    return nil
  end
  if gap >= 0 and gap <= asked.bridge_ms then
    return gap
  end
  -- Without the steps of the clock that the caller has noticed. Of two readings the shorter: nothing is counted twice.
  local true_gap = gap - step - entry.stepped_ms
  return math.max(0, math.min(gap > 0 and gap or true_gap, true_gap, entry.vouched_ms))
end

-- Whole nano-USD for `ms`; what is left of the division is carried to the next interval. The rate is split so that no
-- product leaves the range in which Lua's numbers are exact integers.
local function cost(nano_usd_per_hour, ms, carry)
  local rest = (nano_usd_per_hour % MS_PER_HOUR) * ms + carry
  return math.floor(nano_usd_per_hour / MS_PER_HOUR) * ms + math.floor(rest / MS_PER_HOUR), rest % MS_PER_HOUR
end

-- What accrued after `from` and up to `to`, by the hour: pieces hold from their beginning to that of the next.
local function integral(pieces, from, to, carry, busy_carry)
  local by_hour, order, at = {}, {}, from
  for i, piece in ipairs(pieces) do
    local last = pieces[i + 1] and math.min(to, pieces[i + 1][1]) or to
    while at < last do
      local edge = math.min(last, (math.floor(at / MS_PER_HOUR) + 1) * MS_PER_HOUR)
      local hour, ms, nano_usd, busy_nano_usd = hour_of(at), edge - at, nil, nil
      nano_usd, carry = cost(piece[5], ms, carry)
      busy_nano_usd, busy_carry = cost(piece[6], ms, busy_carry)
      if not by_hour[hour] then
        by_hour[hour] = {0, 0, 0, 0, 0}
        order[#order + 1] = hour
      end
      for s, amount in ipairs({piece[2] * ms, piece[3] * ms, piece[4] * ms, nano_usd, busy_nano_usd}) do
        by_hour[hour][s] = by_hour[hour][s] + amount
      end
      at = edge
    end
  end
  return by_hour, order, carry, busy_carry
end

local function add(hash, names, amounts)
  for i, name in ipairs(names) do
    if amounts[i] > 0 then
      redis.call('HINCRBY', hash, name, integer(amounts[i]))
    end
  end
end

local function charge(gpu, hours, asked, entry, from, to)
  local names = fields(entry.target)
  local rests = {'carry|' .. entry.target, 'busy_carry|' .. entry.target}
  local carried = redis.call('HMGET', gpu, unpack(rests))
  local by_hour, order, carry, busy_carry = integral(entry.pieces, from, to, carried[1] or 0, carried[2] or 0)
  for _, hour in ipairs(order) do
    add(gpu, names, by_hour[hour])
    add(hours .. hour, names, by_hour[hour])
    redis.call('PEXPIRE', hours .. hour, asked.keep_ms)
  end
  redis.call('HSET', gpu, rests[1], integer(carry), rests[2], integer(busy_carry))
end

-- What the mark has passed over, because whoever moved it could not vouch for it: the latest such gap is open to those
-- who can, until the clock is set, or the store has to learn. Before the first mark, all the past is.
local function leave_open(gpu, target, from, to)
  if from < to then
    redis.call('HSET', gpu, 'open_from|' .. target, integer(from), 'open_to|' .. target, integer(to))
  else
    redis.call('HDEL', gpu, 'open_from|' .. target, 'open_to|' .. target)
  end
end

local function close(gpu, hours, asked, entry, mark, now)
  local open = redis.call('HMGET', gpu, 'open_from|' .. entry.target, 'open_to|' .. entry.target)
  local from, to, since = tonumber(open[1] or nil), tonumber(open[2] or nil), now - entry.vouched_ms
  if from and to and to > math.min(mark or 0, now) then
    leave_open(gpu, entry.target, 0, 0)
  elseif from and to and since < to then
    charge(gpu, hours, asked, entry, math.max(from, since), to)
    leave_open(gpu, entry.target, from, math.max(from, since))
  end
end

local function accrue(gpu, hours, asked, entry, mark, now)
  local step = now - asked.expected_ms
  if math.abs(step) <= asked.step_ms then
    step = 0
  end
  local steady = step == 0 and entry.stepped_ms == 0
  if steady then
    close(gpu, hours, asked, entry, mark, now)
  else
    leave_open(gpu, entry.target, 0, 0)
  end
  local ms, to = owed(asked, entry, mark, now, step), now - step
  if not ms then
    return mark
  end
  charge(gpu, hours, asked, entry, to - ms, to)
  if steady and (mark or 0) < now - ms then
    leave_open(gpu, entry.target, mark or 0, now - ms)
  end
  redis.call('HSET', gpu, 'mark|' .. entry.target, integer(now))
  return now
end

return function(keys, argument, context)
  local gpu, hours, now, asked = keys[1], keys[2], context.now, cjson.decode(argument)
  local reply = {}
  for i, entry in ipairs(asked.accruals) do
    local mark, names = restore(gpu, hours, entry, now, asked.keep_ms), fields(entry.target)
    -- A server that learns has not heard of all that was accrued: the time is kept until it has.
    if context.learning then
      leave_open(gpu, entry.target, 0, 0)  -- it may be of a copy that lagged, and closed meanwhile
    else
      mark = accrue(gpu, hours, asked, entry, mark, now)
    end
    -- The hour that a minute ago belonged to: whoever remembers hours has to see each after its last moment.
    local latest = {}
    for _, hour in ipairs({hour_of(now - MS_PER_MINUTE), hour_of(now)}) do
      if latest[#latest - 1] ~= hour then
        latest[#latest + 1] = hour
        latest[#latest + 1] = redis.call('HMGET', hours .. hour, unpack(names))
      end
    end
    reply[i] = {entry.target, integer(mark or 0), redis.call('HMGET', gpu, unpack(names)), latest}
  end
  return reply
end
