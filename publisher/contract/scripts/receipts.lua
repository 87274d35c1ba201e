-- A part of the users who have confirmed a message or a later one, in the order of what they have confirmed, then of their names.
-- KEYS[1]  confirmed
-- ARGV[1]  id of the message   ARGV[2] of those who stand at it only who comes after this user, or "": all
-- ARGV[3]  how many at most
-- Returns  {user, position, user, position, ...}
local confirmed, id, after = KEYS[1], ARGV[1], ARGV[2]

-- As Redis orders them: by bytes. Lua's own comparison depends on the server's locale.
local function comes_before(one, other)
  for i = 1, math.min(#one, #other) do
    local ours, theirs = string.byte(one, i), string.byte(other, i)
    if ours ~= theirs then return ours < theirs end
  end
  return #one < #other
end

local rank = redis.call('ZCOUNT', confirmed, '-inf', '(' .. id)
if after ~= '' then
  -- The user need not stand there any more, so the place is looked for by halves.
  local stop = redis.call('ZCOUNT', confirmed, '-inf', id)
  while rank < stop do
    local middle = math.floor((rank + stop) / 2)
    if comes_before(after, redis.call('ZRANGE', confirmed, middle, middle)[1]) then stop = middle else rank = middle + 1 end
  end
end
return redis.call('ZRANGE', confirmed, rank, rank + ARGV[3] - 1, 'WITHSCORES')
