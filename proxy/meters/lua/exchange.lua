-- One sync of one process: note that it lives, then let each part answer its question, all at one instant.
-- Theory: proxy/meters/part.py. The functions above, and PARTS, are put in front of this text by proxy/meters/store.py.
-- KEYS: meta hash, members zset (slot -> when last heard, ms), then the keys of each part
-- ARGV: JSON {slot, live_ms, learn_ms, last, parts: [[name, number of keys], ...]}, then one argument for each part
-- Reply: {now in ms, live members, 1 while learning, or 2 while nobody has put back what was counted before
--   (`restore.lua`), answer of each part ...}
--
-- A server that has lost its memory, or part of it, cannot know what it had lent out. It shows in its run id: wiped, there
-- is none; restarted, or failed over to, it is another one. Until `learn_ms` have passed it learns from those who know.

local asked = cjson.decode(ARGV[1])
local now = milliseconds()
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
if redis.call('HGET', KEYS[1], 'run') ~= run then
  redis.call('HSET', KEYS[1], 'run', run, 'learning_until', integer(now + asked.learn_ms))
end
local until_ms = tonumber(redis.call('HGET', KEYS[1], 'learning_until') or '0')
local learning = now < until_ms
redis.call('ZADD', KEYS[2], asked.last and 0 or now, asked.slot)
local members = redis.call('ZCOUNT', KEYS[2], now - asked.live_ms, '+inf')

local context = {now = now, slot = asked.slot, members = math.max(members, 1), learning = learning, last = asked.last}
context.run, context.first = run, until_ms == 0
local restored = redis.call('HGET', KEYS[1], 'restored') == run
local reply = {now, members, not learning and 0 or restored and 1 or 2}
local used = 2
for i, part in ipairs(asked.parts) do
  local keys = {}
  for k = 1, part[2] do
    keys[k] = KEYS[used + k]
  end
  used = used + part[2]
  reply[i + 3] = PARTS[part[1]](keys, ARGV[i + 1], context) or false
end
return reply
