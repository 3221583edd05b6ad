-- Budgets: raise what this process was granted, gave back and has used, and grant it more. Theory: proxy/meters/escrow.py.
-- keys, argument: members zset, then a hash for each term; a JSON list, in their order, of
--   {limit, hard, granted, returned, used, need, want, alerts, [slot], [expire_ms], [others]}
-- Answer: for each term {granted, spent, outstanding, starving, {percent, ...}, {slot, outstanding, ...}}; the last one is
--   of the other processes, for the day when this server has forgotten
--
-- Fields: g:<slot>, c:<slot>, u:<slot> (granted, returned, used; each only grows), o:<slot> (what others remember of a slot
-- after a wipe, until it speaks for itself), base (what folded slots have used), f:<slot> (this one was folded),
-- a:<percent> (alerts given), starved_at.
-- Every sum is below 2^53, in which Lua's numbers are exact: limits are at most 9e15 nano-USD.

local STARVED_MS = 1500
local FORGET_MS = 86400000

local function raise(key, field, value)
  local stored = redis.call('HGET', key, field)
  if not stored or greater(value, stored) then
    redis.call('HSET', key, field, value)
  end
end

-- The window's fields by slot: {granted, returned, used, remembered}.
local function read(key)
  local slots, base, starved_at, flat = {}, 0, 0, redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    local kind, slot = string.sub(flat[i], 1, 2), string.sub(flat[i], 3)
    if flat[i] == 'base' then
      base = tonumber(flat[i + 1])
    elseif flat[i] == 'starved_at' then
      starved_at = tonumber(flat[i + 1])
    elseif kind ~= 'a:' and kind ~= 'f:' then
      slots[slot] = slots[slot] or {['g:'] = 0, ['c:'] = 0, ['u:'] = 0, ['o:'] = 0}
      slots[slot][kind] = tonumber(flat[i + 1])
    end
  end
  return slots, base, starved_at
end

-- What a slot may still spend counts as gone, and so does what it has spent beyond its grants.
local function outstanding(fields)
  return math.max(fields['g:'] - fields['c:'], fields['u:'], fields['o:'])
end

local function fold(key, slot, fields)
  redis.call('HINCRBY', key, 'base', integer(outstanding(fields)))
  redis.call('HDEL', key, 'g:' .. slot, 'c:' .. slot, 'u:' .. slot, 'o:' .. slot)
  redis.call('HSET', key, 'f:' .. slot, 1)
end

local function learn(key, ask, slot)
  redis.call('HDEL', key, 'o:' .. slot)
  for other, amount in pairs(ask.others or {}) do
    if other == 'base' then
      raise(key, 'base', amount)
    elseif redis.call('HEXISTS', key, 'g:' .. other) == 0 then
      raise(key, 'o:' .. other, amount)
    end
  end
end

-- Ever less as the end comes near, so that what is left is not all in one hand; but never too little to begin with.
local function granted(ask, available, members)
  local need, want = tonumber(ask.need), tonumber(ask.want)
  if available <= 0 or available < need then
    return 0
  end
  local most = members > 1 and available / (2 * members) or available
  return math.floor(math.min(available, math.max(need, math.min(want, most))))
end

local function alerts(key, ask, spent)
  local crossed = {}
  for _, percent in ipairs(ask.alerts) do
    if spent * 100 >= ask.limit * percent and redis.call('HSETNX', key, 'a:' .. percent, 1) == 1 then
      crossed[#crossed + 1] = percent
    end
  end
  return crossed
end

local function answer(key, ask, members_key, context)
  local own = ask.slot or context.slot
  if redis.call('HEXISTS', key, 'f:' .. own) == 1 then
    return false -- a dead process's, which was folded in time after all
  end
  learn(key, ask, own)
  raise(key, 'g:' .. own, ask.granted)
  raise(key, 'c:' .. own, ask.returned)
  raise(key, 'u:' .. own, ask.used)
  local slots, base, starved_at = read(key)
  local spent, gone, others = base, base, {'base', integer(base)}
  for slot, fields in pairs(slots) do
    spent = spent + math.max(fields['u:'], fields['o:'])
    gone = gone + outstanding(fields)
    if slot ~= own then
      others[#others + 1] = slot
      others[#others + 1] = integer(outstanding(fields))
      local heard = redis.call('ZSCORE', members_key, slot)
      if heard and context.now - heard > FORGET_MS and not context.learning then
        fold(key, slot, fields)
      end
    end
  end
  local amount = 0
  if ask.hard and not context.learning and not context.last then
    amount = granted(ask, ask.limit - gone, context.members)
    if amount > 0 then
      slots[own]['g:'] = slots[own]['g:'] + amount
      redis.call('HSET', key, 'g:' .. own, integer(slots[own]['g:']))
    elseif tonumber(ask.need) > 0 then
      starved_at = context.now
      redis.call('HSET', key, 'starved_at', integer(context.now))
    end
  end
  if context.last and not ask.slot then
    fold(key, own, slots[own])
  end
  if ask.expire_ms then
    redis.call('PEXPIREAT', key, ask.expire_ms)
  end
  local starving = context.now - starved_at < STARVED_MS and 1 or 0
  return {integer(slots[own]['g:']), integer(spent), integer(gone + amount), starving, alerts(key, ask, spent), others}
end

return function(keys, argument, context)
  local replies = {}
  for i, ask in ipairs(cjson.decode(argument)) do
    replies[i] = answer(keys[i + 1], ask, keys[1], context)
  end
  return replies
end
