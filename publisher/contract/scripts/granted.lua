-- How long a user's grant, or everybody's, still lasts: the one that ends last counts.
-- KEYS[1]  grants of the channel
-- ARGV[1]  the user, under the name that grants of theirs have (grants.py); everybody's is "*"
-- Returns  ms, 0 for no grant, -1 for one that never ends
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local remaining = 0
for _, who in ipairs({ARGV[1], '*'}) do
  local expiry = redis.call('ZSCORE', KEYS[1], who)
  if expiry == 'inf' then return -1 end
  if expiry then remaining = math.max(remaining, tonumber(expiry) - now) end
end
return remaining
