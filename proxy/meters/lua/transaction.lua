-- Several commands, all at one instant. A script rather than MULTI: it runs alike on one server and on a cluster.
-- KEYS: those of the commands. ARGV: for each command how many words it has, and the words. Reply: one for each command.
--
-- A server that was a master when we came, and is a replica now, still answers: with old data, or with none while it
-- copies the new master's. It would refuse to write, but nobody may want to.

if string.find(redis.call('INFO', 'replication'), 'role:slave', 1, true) then
  return redis.error_reply('READONLY it was a master, and is not any more')
end
local replies, at = {}, 1
while ARGV[at] do
  local last = at + ARGV[at]
  replies[#replies + 1] = redis.call(unpack(ARGV, at + 1, last))
  at = last + 1
end
return replies
