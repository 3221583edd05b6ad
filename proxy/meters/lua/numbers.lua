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

-- Beyond fifteen digits the last fifteen are reckoned by themselves.
local function halves(digits)
  return tonumber(string.sub(digits, 1, -16)) or 0, tonumber(string.sub(digits, -15))
end

local function joined(high, low)
  return high == 0 and integer(low) or string.format('%.0f%015.0f', high, low)
end

local function plus(a, b)
  if #a < 16 and #b < 16 then
    return integer(a + b)
  end
  local high, low = halves(a)
  local more_high, more_low = halves(b)
  low = low + more_low
  return joined(high + more_high + math.floor(low / 1e15), low % 1e15)
end

-- `a` is not less than `b`.
local function minus(a, b)
  if #a < 16 then
    return integer(a - b)
  end
  local high, low = halves(a)
  local less_high, less_low = halves(b)
  low = low - less_low
  return joined(high - less_high + math.floor(low / 1e15), low % 1e15)
end
