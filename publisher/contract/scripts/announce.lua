-- Tells the publishers which namespaces a gateway has, and removes those that none has had for a while. In the same way
-- it tells how long a token may live.
-- KEYS[1]  namespaces, or lifetimes
-- ARGV[1]  seconds after which a namespace is removed that no gateway announces
-- ARGV[2], ARGV[3], ...  name, its rules as a JSON object, name, rules, ...
-- Gateways before version 0.2 announce without a time. This gives one to whatever has none; a gateway that still
-- has the namespace writes it without a time again.
-- Reply: name, rules, name, rules, ... of those that were announced otherwise before
-- What one gateway says to be encrypted stays so while it says it: one that was forgotten makes no publisher write what
-- can be read.
local SECONDS_OF_SECRECY = 150
local now = tonumber(redis.call('TIME')[1])

local function announce(name, rules)
  local open = string.match(rules, '^(.*)}$')
  if not open then return end
  local comma = open == '{' and '' or ','
  redis.call('HSET', KEYS[1], name, open .. comma .. '"announced":' .. now .. '}')
end

local given = {}
for i = 2, #ARGV, 2 do given[ARGV[i]] = ARGV[i + 1] end

local function stays_encrypted(rules, announced, own)
  return string.find(rules, '"encrypted":true', 1, true) and not string.find(own, '"encrypted":true', 1, true)
    and announced and now - announced < SECONDS_OF_SECRECY
end

local differing = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local name, rules = all[i], all[i + 1]
  local announced = string.match(rules, '"announced":(%d+)}$')
  if given[name] then
    if string.gsub(rules, ',?"announced":%d+}$', '}') ~= given[name] then
      table.insert(differing, name)
      table.insert(differing, rules)
    end
    if stays_encrypted(rules, announced, given[name]) then given[name] = nil end
  elseif not announced then
    announce(name, rules)
  elseif now - announced > tonumber(ARGV[1]) then
    redis.call('HDEL', KEYS[1], name)
  end
end

for name, rules in pairs(given) do announce(name, rules) end
return differing
