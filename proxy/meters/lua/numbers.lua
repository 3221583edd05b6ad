-- What every part needs. Integers travel as decimal strings: Lua's own numbers are exact only below 2^53.

local function milliseconds()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function integer(x)
  return string.format('%.0f', x)
end

-- Non-negative decimal strings compare by length, then by digits.
local function greater(a, b)
  return #a > #b or (#a == #b and a > b)
end
