-- A part of a sorted set, by score and then by member. Whatever gets a higher score while the parts are read is in a later one.
-- KEYS[1]  the set
-- ARGV[1]  lowest score   ARGV[2] of those with this score only what comes after this member, or "": all
-- ARGV[3]  how many at most
-- Returns  {member, score, member, score, ...}
local set, lowest, after = KEYS[1], ARGV[1], ARGV[2]

-- As Redis orders them: by bytes. Lua's own comparison depends on the server's locale.
local function comes_before(one, other)
  for i = 1, math.min(#one, #other) do
    local ours, theirs = string.byte(one, i), string.byte(other, i)
    if ours ~= theirs then return ours < theirs end
  end
  return #one < #other
end

local rank = redis.call('ZCOUNT', set, '-inf', '(' .. lowest)
if after ~= '' then
  -- It need not be there any more, so the place is looked for by halves.
  local stop = redis.call('ZCOUNT', set, '-inf', lowest)
  while rank < stop do
    local middle = math.floor((rank + stop) / 2)
    if comes_before(after, redis.call('ZRANGE', set, middle, middle)[1]) then stop = middle else rank = middle + 1 end
  end
end
return redis.call('ZRANGE', set, rank, rank + ARGV[3] - 1, 'WITHSCORES')
