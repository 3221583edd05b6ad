-- Share token buckets, and places, among processes. Theory, protocol and bounds: proxy/meters/buckets.py.
-- keys: peers hash (slot -> msgpack; '' -> what concerns all), buckets hash (name -> msgpack), short zset (name -> ms)
-- argument: JSON {n, echo, era, share, members, whole, forget_ms, dead: [slot], asks: [[name, kind, limit, held, back,
--   want, seen], ...]}; kind 2 are places, which are not refilled
-- Answer: {era, learning, share, members, somebody is away, {short name, ...}, {granted, level, elsewhere, ...}}, the
--   last one flat, three for each ask; false for a question that is older than one already answered
--
-- Levels are kept in grains of 1/60000 token, so that a limit of L a minute refills L grains a millisecond.

local GRAINS = 60000
local WHOLE = 1000000
local AWAY_MS = 1000
local PLACES = 2
local SHORT_MS = 3000
local SWEPT = 16
local AT_ONCE = 2000

local function load(packed)
  return packed and cmsgpack.unpack(packed) or nil
end

local function read_peers(key)
  local peers, all, flat = {}, {clock = 0, at = 0, began = 0, claimed = 0, cursor = '0'}, redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    if flat[i] == '' then
      all = load(flat[i + 1])
    else
      peers[flat[i]] = load(flat[i + 1])
    end
  end
  return peers, all
end

-- Another server answers now, or one that was wiped. Either those who live have to say first what they hold, or, as the
-- exchange knows from elsewhere, nobody does.
local function follow(run, peers, all, context)
  if all.run == run then
    return
  end
  -- A server that is wiped keeps its run id; what is asked of those who live has a name of its own.
  all.era = run .. '@' .. integer(context.now)
  all.run, all.at, all.began, all.claimed = run, context.now, context.now, 0
  all.learning = not context.first
  for slot, peer in pairs(peers) do
    if context.first then
      peers[slot] = nil
    else
      peer.whole, peer.heard = false, context.now
    end
  end
end

-- The clock by which every bucket is refilled: it stands still for the part of those who refill for themselves, or may.
local function advance(peers, all, now)
  if now < all.at then
    for _, peer in pairs(peers) do
      peer.stamp, peer.at, peer.heard = math.min(peer.stamp, now), math.min(peer.at, now), math.min(peer.heard, now)
    end
  elseif not all.learning then
    local gained = (now - all.at) * WHOLE
    for _, peer in pairs(peers) do
      gained = gained - peer.share * math.max(0, now - math.max(all.at, peer.stamp + AWAY_MS))
    end
    all.clock = all.clock + math.max(0, math.floor(gained / 1000))
  end
  all.at = now
end

local function forget(peers, asked, own, now)
  for _, slot in ipairs(asked.dead) do
    peers[slot] = nil
  end
  for slot, peer in pairs(peers) do
    if slot ~= own and now - peer.heard > asked.forget_ms then
      peers[slot] = nil
    end
  end
end

local function count(peers)
  local total, shares = 0, 0
  for _, peer in pairs(peers) do
    total, shares = total + 1, shares + peer.share
  end
  return total, shares
end

-- Whether the store still has to be told what is held.
local function learns(peers, all, asked, context)
  if not all.learning or context.now - all.began > asked.forget_ms then
    return false
  end
  local heard = 0
  for _, peer in pairs(peers) do
    if not peer.whole then
      return true
    end
    heard = heard + (peer.fresh and 0 or 1)
  end
  return heard < all.claimed or (all.claimed == 0 and context.learning)
end

-- Note what the asker has proven to know, and what it may take for its share.
local function greet(peers, all, asked, context)
  local fresh = asked.members == 0
  local me = peers[context.slot] or {stamp = context.now, share = 0}
  peers[context.slot] = me
  if asked.echo == me.n then
    me.stamp = me.at
  end
  me.n, me.at, me.heard, me.share = asked.n, context.now, context.now, asked.share
  if all.learning then
    me.fresh = fresh
    me.whole = fresh or (asked.whole and asked.era == all.era)
    me.stamp = context.now - AWAY_MS
    all.claimed = math.max(all.claimed, asked.members)
    all.learning = learns(peers, all, asked, context)
  end
  local members, shares = count(peers)
  local share = math.max(0, math.min(math.floor(WHOLE / members), WHOLE - shares + me.share))
  if all.learning then
    share = fresh and 0 or asked.share
  end
  me.share = math.max(me.share, share)
  return share, members
end

-- Who may refill for itself at this moment, and since when.
local function absent(peers, own, now)
  local away, some = {}, false
  for slot, peer in pairs(peers) do
    if slot ~= own and now > peer.stamp + AWAY_MS then
      away[slot], some = {share = peer.share / WHOLE, since = peer.stamp + AWAY_MS}, true
    end
  end
  return away, some
end

-- Leave room for all that is held, and for what those who are away may have added to it.
local function cap(state, peers, away, now)
  local room = state.limit * GRAINS
  for slot, member in pairs(state.members) do
    if peers[slot] then
      room = room - math.max(0, member.held) * GRAINS
    else
      state.members[slot] = nil
    end
  end
  for slot, peer in pairs(away) do
    local member = state.members[slot]
    local below = peer.share * state.limit * GRAINS - (member and member.held or 0) * GRAINS
    room = room - math.max(0, math.min(below, peer.share * state.limit * (now - peer.since)))
  end
  state.level = math.floor(math.min(state.level, math.max(0, room)))
end

local function available(state, kind)
  if kind ~= PLACES then
    return math.floor(state.level / GRAINS)
  end
  local free = state.limit
  for _, member in pairs(state.members) do
    free = free - member.held
  end
  return free
end

-- What cannot be divided goes to those at the end: of equal wants, to who has waited longest for a grant.
local function by_want(one, other)
  if one.want ~= other.want then
    return one.want < other.want
  end
  return one.at > other.at or (one.at == other.at and one.slot < other.slot)
end

-- Water-filling: nobody gets more than it wants while another wants more than it gets, and what nobody wants is divided
-- equally. Returns what `own` is to hold of `pool`, and how much of that it wants.
local function entitled(state, peers, away, own, pool)
  local order = {}
  for slot in pairs(peers) do
    if not away[slot] then
      local member = state.members[slot]
      order[#order + 1] = {slot = slot, want = math.min(member and member.want or 0, pool), at = member and member.at or 0}
    end
  end
  table.sort(order, by_want)
  local left, filled, rank = pool, 0, 0
  for i, one in ipairs(order) do
    local fill = math.min(one.want, math.floor(left / (#order - i + 1)))
    left = left - fill
    if one.slot == own then
      filled, rank = fill, i
    end
  end
  return filled + math.floor(left / #order) + (rank <= left % #order and 1 or 0), filled
end

local function held_in_touch(state, away)
  local total = 0
  for slot, member in pairs(state.members) do
    if not away[slot] then
      total = total + math.max(0, member.held)
    end
  end
  return total
end

local function tell(state, ask, learning, clock, own)
  local limit, held, back, want, seen = ask[3], ask[4], ask[5], ask[6], ask[7]
  state.limit = limit
  state.members[own] = {held = held, want = want, at = state.members[own] and state.members[own].at or 0}
  state.level = state.level + back * GRAINS
  if learning and seen >= 0 then
    state.level = math.min(state.level, seen * GRAINS)
  end
  state.clock = clock
end

local function elsewhere(state, own)
  local total = 0
  for slot, member in pairs(state.members) do
    if slot ~= own then
      total = total + math.max(0, member.held)
    end
  end
  return total
end

-- One bucket's answer: what is granted now; whether others should make room, because what is wanted is not there, or
-- less than half of what is due.
local function serve(state, kind, peers, away, own, now)
  local member, free = state.members[own], math.max(0, available(state, kind))
  local due, wanted = entitled(state, peers, away, own, free + held_in_touch(state, away))
  local granted = math.max(0, math.min(due - member.held, free))
  member.held = member.held + granted
  if granted > 0 then
    member.at = now
  end
  if kind ~= PLACES then
    state.level = state.level - granted * GRAINS
  end
  return granted, member.held < wanted or member.held * 2 < due
end

local function refill(state, ask, all)
  if ask[2] ~= PLACES then
    state.level = state.level + math.floor(state.limit * (all.clock - state.clock) / 1000)
  end
end

-- Drop buckets that are full, and of which nobody holds any: such a one is like one that never was.
local function sweep(key, peers, all)
  local page = redis.call('HSCAN', key, all.cursor, 'COUNT', SWEPT)
  all.cursor = page[1]
  for i = 1, #page[2], 2 do
    local state, kept = load(page[2][i + 1]), false
    for slot in pairs(state.members) do
      kept = kept or peers[slot] ~= nil
    end
    if not kept and state.level + state.limit * (all.clock - state.clock) / 1000 >= state.limit * GRAINS then
      redis.call('HDEL', key, page[2][i])
    end
  end
end

-- Lua takes no more than some thousand arguments at a time.
local function each(command, key, arguments)
  local results = {}
  for first = 1, #arguments, AT_ONCE do
    local found = redis.call(command, key, unpack(arguments, first, math.min(first + AT_ONCE - 1, #arguments)))
    for i = 1, type(found) == 'table' and #found or 0 do
      results[#results + 1] = found[i]
    end
  end
  return results
end

local function answer(keys, asked, peers, all, context)
  local names, fields, reply, short = {}, {}, {}, {}
  local away, some = absent(peers, context.slot, context.now)
  for i, ask in ipairs(asked.asks) do
    names[i] = ask[1]
  end
  local stored = each('HMGET', keys[2], names)
  for i, ask in ipairs(asked.asks) do
    local state = load(stored[i]) or {limit = ask[3], level = ask[3] * GRAINS, clock = all.clock, members = {}}
    local granted, wanting = 0, false
    refill(state, ask, all)
    cap(state, peers, away, context.now)
    tell(state, ask, all.learning, all.clock, context.slot)
    cap(state, peers, away, context.now)
    if not all.learning and not context.last then
      granted, wanting = serve(state, ask[2], peers, away, context.slot, context.now)
    end
    if wanting then
      short[#short + 1] = context.now
      short[#short + 1] = ask[1]
    end
    reply[#reply + 1] = granted
    reply[#reply + 1] = available(state, ask[2])
    reply[#reply + 1] = elsewhere(state, context.slot)
    fields[#fields + 1] = ask[1]
    fields[#fields + 1] = cmsgpack.pack(state)
  end
  each('HSET', keys[2], fields)
  each('ZADD', keys[3], short)
  return reply, some
end

local function write_peers(key, peers, all)
  redis.call('DEL', key)
  local fields = {'', cmsgpack.pack(all)}
  for slot, peer in pairs(peers) do
    fields[#fields + 1] = slot
    fields[#fields + 1] = cmsgpack.pack(peer)
  end
  each('HSET', key, fields)
end

return function(keys, argument, context)
  local asked = cjson.decode(argument)
  local peers, all = read_peers(keys[1])
  follow(context.run, peers, all, context)
  local me = peers[context.slot]
  if me and asked.n <= me.n then
    return false
  end
  advance(peers, all, context.now)
  forget(peers, asked, context.slot, context.now)
  local share, members = greet(peers, all, asked, context)
  local reply, away = answer(keys, asked, peers, all, context)
  if context.last then
    peers[context.slot] = nil
  end
  redis.call('ZREMRANGEBYSCORE', keys[3], '-inf', context.now - SHORT_MS)
  local short = redis.call('ZRANGEBYSCORE', keys[3], context.now - SHORT_MS, '+inf')
  sweep(keys[2], peers, all)
  write_peers(keys[1], peers, all)
  return {all.era, all.learning and 1 or 0, share, members, away and 1 or 0, short, reply}
end
