-- Takes one of a user's places, counted across the cluster, unless the token that asks for it is revoked.
-- KEYS[1]  connections of the user   KEYS[2] before which time their tokens are revoked
-- KEYS[3], KEYS[4]  only where the oldest connection gives way: when each came; how many gave way in this minute
-- ARGV[1]  member "<node>/<connection>"   ARGV[2] limit   ARGV[3] lease, ms   ARGV[4] no lease is longer, ms
-- ARGV[5]  when the token was issued, seconds since 1970; "" for a token that does not say, "-" where no token asks
-- ARGV[6]  only with KEYS[3]: how many may give way in a minute, or "" for none at this try
-- ARGV[7]  only with KEYS[3]: control channel   ARGV[8] the command about one that gave way, without its end
-- ARGV[6], ARGV[7], ... (ARGV[9], ...)  members that nobody holds any more and the expiry each was seen with: dropped
--          first, unless renewed since
-- Returns  now in us when the place was taken, 0 when the token is revoked, else all holders: {member, expiry, member, ...}
local key, member, issued, entered, minute = KEYS[1], ARGV[1], ARGV[5], KEYS[3], KEYS[4]
if issued ~= '-' then
  local before = redis.call('GET', KEYS[2])
  if before and (issued == '' or tonumber(issued) < tonumber(before)) then return 0 end
end
local time = redis.call('TIME')
local at = time[1] * 1000000 + time[2]
local now = math.floor(at / 1000)
local held = redis.call('ZCARD', key)
if held > 0 then held = held - redis.call('ZREMRANGEBYSCORE', key, '-inf', now) end
for i = entered and 9 or 6, #ARGV, 2 do
  if redis.call('ZSCORE', key, ARGV[i]) == ARGV[i + 1] then held = held - redis.call('ZREM', key, ARGV[i]) end
end

-- Only for a user at the limit: to make these functions costs more than a command does.
local limit = tonumber(ARGV[2])
if held >= limit and not redis.call('ZSCORE', key, member) then
  -- A connection that is not known to have come came before all others: a node of an earlier version has it, or of two
  -- that are not known the one whose lease ends first.
  local function oldest()
    local found, first
    for _, each in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      local came = tonumber(redis.call('ZSCORE', entered, each) or 0)
      if not found or came < first then found, first = each, came end
    end
    return found
  end

  local function replace(most)
    local done, needed = tonumber(redis.call('GET', minute) or 0), held - limit + 1
    if done + needed > most then return end
    for _ = 1, needed do
      local gone = oldest()
      redis.call('ZREM', key, gone)
      redis.call('ZREM', entered, gone)
      redis.call('PUBLISH', ARGV[7], ARGV[8] .. ',"member":' .. cjson.encode(gone) .. '}')
    end
    held = held - needed
    if done == 0 then
      redis.call('SET', minute, needed, 'PX', 60000)
    else
      redis.call('SET', minute, done + needed, 'KEEPTTL')
    end
  end

  if entered and ARGV[6] ~= '' then replace(tonumber(ARGV[6])) end
  if held >= limit then
    -- Written while the clock was ahead. Who holds it renews it; nobody else is to hold it for so long.
    for _, ahead in ipairs(redis.call('ZRANGEBYSCORE', key, now + ARGV[4], '+inf')) do
      redis.call('ZADD', key, now + ARGV[3], ahead)
    end
    return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  end
end
redis.call('ZADD', key, now + ARGV[3], member)
if held == 0 then
  redis.call('PEXPIRE', key, ARGV[3])
else
  redis.call('PEXPIRE', key, ARGV[3], 'GT')  -- another node's lease may be longer
end
if entered then
  redis.call('ZADD', entered, string.format('%.0f', at), member)
  redis.call('PEXPIRE', entered, ARGV[4])
end
return at  -- a number alone: a table costs a seventh of all this
