-- Add up the work of each bin over all proxies, and close the hours that are over into histograms. Theory:
-- proxy/meters/work_bins.py, work_buckets.py.
-- Keys: demand hash (began, and seen|<slot> -> "sequence time"), open zset (<hour>|<bin ms>|<pool> -> when it closes, ms),
--   the beginnings of the names of the hours' hashes (bins|<bin ms>|<pool> and app|<pool>|<app> -> vector), and of the
--   open hours' bins (64-bit integers, microseconds), all in the slot of these two
-- Argument: JSON {sequence, keep_ms, close_ms, forget_ms, hours: [{hour, ends_ms, bin_ms, pool, bins: [index, work_us,
--   ...], apps: {app: vector}}]}
-- Answer: the sequence number up to which this process's pushes are in

local PER_OCTAVE = 16
local OCTAVES = 20
local AT_ONCE = 500
local CLOSED_AT_ONCE = 4

local function bucket_of(work_us, bin_ms)
  local octaves = math.log(work_us / (bin_ms * 1000)) / math.log(2) + OCTAVES / 2
  return math.max(0, math.min(math.floor(PER_OCTAVE * octaves) + 1, PER_OCTAVE * OCTAVES))
end

-- What the bins of an open hour have come to, as a vector of how many lie in which bucket.
local function histogram(bins, bin_ms)
  local counts, last = {}, -1
  for i = 1, #bins - 7, 8 do
    local work_us = struct.unpack('>I8', bins, i)
    if work_us > 0 then
      local bucket = bucket_of(work_us, bin_ms)
      counts[bucket] = (counts[bucket] or 0) + 1
      last = math.max(last, bucket)
    end
  end
  for bucket = 0, last do
    counts[bucket] = integer(counts[bucket] or 0)
  end
  return last >= 0 and table.concat(counts, ',', 0, last)
end

local function close(keys, name, keep_ms)
  local hour, bin_ms, pool = string.match(name, '^([^|]*)|([^|]*)|(.*)$')
  local counts = histogram(redis.call('GET', keys[4] .. name) or '', tonumber(bin_ms))
  if counts then
    add_vector(keys[3] .. hour, 'bins|' .. bin_ms .. '|' .. pool, counts)
    redis.call('PEXPIRE', keys[3] .. hour, keep_ms)
  end
  redis.call('DEL', keys[4] .. name)
  redis.call('ZREM', keys[2], name)
end

local function add_bins(key, bins)
  for first = 1, #bins, 2 * AT_ONCE do
    local commands = {}
    for i = first, math.min(first + 2 * AT_ONCE - 2, #bins - 1), 2 do
      local at = #commands
      commands[at + 1], commands[at + 2], commands[at + 3], commands[at + 4] =
        'INCRBY', 'i64', '#' .. integer(bins[i]), integer(bins[i + 1])
    end
    redis.call('BITFIELD', key, unpack(commands))
  end
end

local function file(keys, one, asked, now)
  local name = one.hour .. '|' .. integer(one.bin_ms) .. '|' .. one.pool
  -- What comes late, after an outage, comes from all proxies: their bins are added up, too, before they are closed.
  redis.call('ZADD', keys[2], 'NX', math.max(one.ends_ms, now) + asked.close_ms, name)
  add_bins(keys[4] .. name, one.bins)
  redis.call('PEXPIRE', keys[4] .. name, asked.keep_ms)
  for app, vector in pairs(one.apps) do
    add_vector(keys[3] .. one.hour, 'app|' .. one.pool .. '|' .. app, vector)
  end
  redis.call('PEXPIRE', keys[3] .. one.hour, asked.keep_ms)
end

local function forget_the_silent(key, forget_before)
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local at = string.match(all[i + 1], ' (%d+)$')
    if string.sub(all[i], 1, 5) == 'seen|' and tonumber(at) < forget_before then
      redis.call('HDEL', key, all[i])
    end
  end
end

return function(keys, argument, context)
  local asked = cjson.decode(argument)
  local mine = 'seen|' .. context.slot
  redis.call('HSETNX', keys[1], 'began', integer(context.now))
  local seen = tonumber(string.match(redis.call('HGET', keys[1], mine) or '0', '^%d+'))
  if asked.sequence > seen then
    for _, one in ipairs(asked.hours) do
      file(keys, one, asked, context.now)
    end
    seen = asked.sequence
  end
  redis.call('HSET', keys[1], mine, integer(seen) .. ' ' .. integer(context.now))
  local over = redis.call('ZRANGEBYSCORE', keys[2], '-inf', context.now, 'LIMIT', 0, CLOSED_AT_ONCE)
  for _, name in ipairs(over) do
    close(keys, name, asked.keep_ms)
  end
  if #over > 0 then
    forget_the_silent(keys[1], context.now - asked.forget_ms)
  end
  return seen
end
