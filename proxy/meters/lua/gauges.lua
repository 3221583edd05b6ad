-- Publish one process's gauges for a while, and read everybody else's.
-- KEYS: gauges hash
-- ARGV: slot id, time to live in ms, JSON {gauge: integer}; an empty string withdraws them
-- Reply: the JSON texts of the others that have not expired

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', now + ARGV[2], ARGV[3]))
end
local all = redis.call('HGETALL', KEYS[1])
local others = {}
for i = 1, #all, 2 do
  if all[i] ~= ARGV[1] then
    local space = string.find(all[i + 1], ' ', 1, true)
    local left = tonumber(string.sub(all[i + 1], 1, space - 1)) - now
    -- Nobody asks for a minute: so long a life means that the store's clock was set back.
    if left > 0 and left < 60000 then
      others[#others + 1] = string.sub(all[i + 1], space + 1)
    else
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
end
return others
