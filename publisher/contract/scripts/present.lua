-- A part of who is in a channel. Leases are renewed, and members so get other scores, while the parts are read; ZSCAN gives each
-- that stays all the same, some of them twice.
-- KEYS[1]  the channel's members, by when their lease ends, in ms
-- ARGV[1]  where the part begins: "0", or what the one before has returned   ARGV[2] about how many members
-- Returns  {where the next part begins: "0" if there is none, member, member, ...}
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local part = redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local reply = {part[1]}
for i = 1, #part[2], 2 do
  if tonumber(part[2][i + 1]) > now then reply[#reply + 1] = part[2][i] end
end
return reply
