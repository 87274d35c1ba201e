-- Notes who is in a channel on a node, and who is not any more; drops all whose lease has run out. Where it is asked to, it
-- tells which users have come and gone.
-- KEYS[1]  presence of the channel   KEYS[2] only where it tells: on how many nodes each user is; under "" how many members are
--          counted there
-- ARGV[1]  lease, ms   ARGV[2] no lease is longer, ms   ARGV[3] how many of the members are there
-- ARGV[4]  pub/sub channel for what changes, or "" where nobody is told   ARGV[5] up to so many users they are told
-- ARGV[6], ...  members "<node>/<user>", first those that are there
-- Returns  nothing
local key, nodes, lease, there, told, first = KEYS[1], KEYS[2], tonumber(ARGV[1]), tonumber(ARGV[3]), ARGV[4] ~= '', 6
local function user_of(member) return string.sub(member, string.find(member, '/', 1, true) + 1) end
if told and tonumber(redis.call('HGET', nodes, '') or 0) ~= redis.call('ZCARD', key) then
  -- Somebody else has written there, or one of both is lost: all are counted anew.
  local counts = {}
  for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    local user = user_of(member)
    counts[user] = (counts[user] or 0) + 1
  end
  redis.call('DEL', nodes)
  for user, count in pairs(counts) do redis.call('HSET', nodes, user, count) end
end
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

if not told then return end
local users, before, after, changes = {}, {}, {}, {}
local function change(member, by)
  local user = user_of(member)
  if not before[user] then
    users[#users + 1] = user
    before[user] = tonumber(redis.call('HGET', nodes, user) or 0)
    after[user] = before[user]
  end
  after[user] = after[user] + by
end
for _, member in ipairs(went) do change(member, -1) end
for _, member in ipairs(came) do change(member, 1) end
for _, user in ipairs(users) do
  if after[user] > 0 then redis.call('HSET', nodes, user, after[user]) else redis.call('HDEL', nodes, user) end
  local kind = before[user] == 0 and after[user] > 0 and 'joined' or before[user] > 0 and after[user] == 0 and 'left'
  if kind then
    changes[kind] = changes[kind] or {}
    table.insert(changes[kind], user)
  end
end
redis.call('HSET', nodes, '', redis.call('ZCARD', key))
if redis.call('PTTL', nodes) < lease then redis.call('PEXPIRE', nodes, lease) end
if next(changes) and redis.call('HLEN', nodes) - 1 <= tonumber(ARGV[5]) then
  redis.call('PUBLISH', ARGV[4], cjson.encode(changes))
end
