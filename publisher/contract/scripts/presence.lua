-- Notes who is in a channel on a node, and who is not any more; drops all whose lease has run out. Where it is asked to, it
-- tells which users have come and gone.
-- KEYS[1]  presence of the channel
-- ARGV[1]  lease, ms   ARGV[2] no lease is longer, ms   ARGV[3] how many of the members are there
-- ARGV[4]  pub/sub channel for what changes, or "" where nobody is told   ARGV[5] up to so many members they are told
-- ARGV[6], ...  members "<node>/<user>", first those that are there
-- Returns  nothing
local key, lease, there, told, first = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[3]), ARGV[4] ~= '', 6
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local came, went = {}, told and redis.call('ZRANGEBYSCORE', key, '-inf', now) or {}
redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
-- Written while the clock was ahead. Whoever is there renews it; nobody else is to be there for so long.
for _, ahead in ipairs(redis.call('ZRANGEBYSCORE', key, now + ARGV[2], '+inf')) do
  redis.call('ZADD', key, now + lease, ahead)
end
if told and #ARGV >= first then
  for i, score in ipairs(redis.call('ZMSCORE', key, unpack(ARGV, first))) do
    if i <= there and not score then
      came[#came + 1] = ARGV[first - 1 + i]
    elseif i > there and score then
      went[#went + 1] = ARGV[first - 1 + i]
    end
  end
end
if there > 0 then
  local pairs = {}
  for i = first, first - 1 + there do
    pairs[#pairs + 1] = now + lease
    pairs[#pairs + 1] = ARGV[i]
  end
  redis.call('ZADD', key, unpack(pairs))
end
if #ARGV > first - 1 + there then redis.call('ZREM', key, unpack(ARGV, first + there)) end
-- another node's lease may be longer
if redis.call('PTTL', key) < lease then redis.call('PEXPIRE', key, lease) end

if (#came == 0 and #went == 0) or redis.call('ZCARD', key) > tonumber(ARGV[5]) then return end
local function user_of(member) return string.sub(member, string.find(member, '/', 1, true) + 1) end
local nodes, known, changes = {}, {}, {}
for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
  local user = user_of(member)
  nodes[user] = (nodes[user] or 0) + 1
end
local function note(kind, user)
  changes[kind] = changes[kind] or {}
  table.insert(changes[kind], user)
end
for _, member in ipairs(went) do
  local user = user_of(member)
  if not nodes[user] and not known[user] then note('left', user) end
  known[user] = true
end
for _, member in ipairs(came) do
  local user = user_of(member)
  if nodes[user] == 1 and not known[user] then note('joined', user) end
end
if next(changes) then redis.call('PUBLISH', ARGV[4], cjson.encode(changes)) end
