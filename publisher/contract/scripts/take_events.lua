-- Gives a consumer of a group events that it is to handle, after those were acknowledged that it has handled.
-- KEYS[1]  events
-- ARGV[1]  group   ARGV[2] consumer   ARGV[3] where a group begins that is not there: "$" behind the last event, "0" with the oldest
-- ARGV[4]  so many at most   ARGV[5] "1": those first that the consumer was given before
-- ARGV[6]  then those that another consumer has had for so long, ms; "" for none. Consumers that have nothing to handle and
--          have asked for nothing for so long that ARGV[7], ms, is over are forgotten then
-- ARGV[8], ...  ids of events that are handled
-- Returns  {how many events were trimmed away before this group was given them, as far as Redis knows,
--          {id, {field, value, ...}}, ...}
local events, group, consumer, most = KEYS[1], ARGV[1], ARGV[2], ARGV[4]
local function read(from)
  local reply = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', most, 'STREAMS', events, from)
  if reply and reply.err and string.find(reply.err, 'NOGROUP', 1, true) then
    redis.call('XGROUP', 'CREATE', events, group, ARGV[3], 'MKSTREAM')
    reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', most, 'STREAMS', events, from)
  end
  if reply and reply.err then return reply end
  return reply and reply[1] and reply[1][2] or {}
end

-- What was trimmed away is in no event any more.
local function kept(found)
  local left = {}
  for _, each in ipairs(found) do
    if each[2] then left[#left + 1] = each else redis.call('XACK', events, group, each[1]) end
  end
  return left
end

-- How many events of the stream are behind the group, from the first one ever; nil where Redis cannot tell (7.0).
local function passed()
  local groups = redis.pcall('XINFO', 'GROUPS', events)
  for _, each in ipairs(groups.err and {} or groups) do
    if each[2] == group then
      for i = 1, #each, 2 do
        if each[i] == 'entries-read' then return tonumber(each[i + 1] or nil) end
      end
    end
  end
end

if #ARGV > 7 then redis.call('XACK', events, group, unpack(ARGV, 8)) end
local found = {}
if ARGV[5] == '1' then
  found = read('0')
  if found.err then return found end
  found = kept(found)
end
if #found < tonumber(most) and ARGV[6] ~= '' then
  local claimed = redis.pcall('XAUTOCLAIM', events, group, consumer, ARGV[6], '0-0', 'COUNT', most - #found)
  if not claimed.err then
    for _, each in ipairs(kept(claimed[2])) do found[#found + 1] = each end
    for _, each in ipairs(redis.call('XINFO', 'CONSUMERS', events, group)) do
      if each[4] == 0 and each[6] > tonumber(ARGV[7]) and each[2] ~= consumer then
        redis.call('XGROUP', 'DELCONSUMER', events, group, each[2])
      end
    end
  end
end
local missed = 0
if #found == 0 then
  local before = passed()
  found = read('>')
  if found.err then return found end
  if before and #found > 0 then missed = math.max(0, (passed() or 0) - before - #found) end
end
table.insert(found, 1, missed)
return found
