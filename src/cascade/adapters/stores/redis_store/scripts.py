"""What the server does at once, all or nothing: one Lua script for each change.

`KEYS` and `ARGV` are described above each script. Numbers with a fraction go as text, as Python writes them.
"""

from __future__ import annotations

from typing import Final

CLAIM: Final = """
-- KEYS: run, scopes, taken, lines.
-- A claim that is repeated finds itself: it was done already.
-- ARGV: the epoch to take over or '', this claim, the epoch after it, host, owner, lease_until, updated, then all
--       fields of a new run.
local run = KEYS[1]
local held = redis.call('HMGET', run, 'epoch', 'claim', 'status')
if ARGV[1] == '' then
  if not held[1] then
    -- A server that evicts may have let go of a run and not of its records: they are not of the new one.
    for _, scope in ipairs(redis.call('SMEMBERS', KEYS[2])) do
      redis.call('UNLINK', run .. ':scope:' .. scope)
    end
    redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4])
    redis.call('HSET', run, 'claim', ARGV[2], 'birth', ARGV[2], 'sequence', '0', unpack(ARGV, 8))
  elseif held[2] ~= ARGV[2] then
    return false
  end
elseif held[1] == ARGV[1] then
  redis.call('HSET', run, 'epoch', ARGV[3], 'claim', ARGV[2], 'host', ARGV[4], 'owner', ARGV[5],
             'lease_until', ARGV[6], 'updated', ARGV[7])
  if held[3] ~= 'succeeded' then
    redis.call('HSET', run, 'status', 'running')
    redis.call('HDEL', run, 'error')
  end
elseif held[2] ~= ARGV[2] then
  return false
end
return redis.call('HGETALL', run)
"""

_FENCE: Final = """
-- KEYS: run, ...
-- ARGV: epoch, birth or '', the sequence that was seen last, ...
-- Gives the sequence as it now is, or a list of what is wrong and who owns the run.
local run = KEYS[1]
local held = redis.call('HMGET', run, 'epoch', 'birth', 'sequence', 'owner')
if not held[1] then
  return {'gone', ''}
elseif held[1] ~= ARGV[1] then
  return {'taken', held[4] or ''}
elseif ARGV[2] ~= '' and held[2] ~= ARGV[2] then
  return {'anew', held[4] or ''}
elseif tonumber(held[3]) < tonumber(ARGV[3]) then
  return {'behind', ''}
end
"""

_KEEP: Final = """
-- Keeps framed records, the scopes of which have the keys from KEYS[offset] on. A place that is known keeps its
-- number in the order, which is the first six bytes of what is stored. Further fields of the run are set as given.
local function keep(blob, offset, ...)
  local frame, sub = struct.unpack, string.sub
  local groups = {}
  local at, count, length = 1, 0, #blob
  while at <= length do
    local number, width, size, start = frame('<I4BI4', blob, at)
    local group = groups[number]
    if not group then
      group = {n = 0, nodes = {}, values = {}, order = {}, known = {}}
      groups[number] = group
    end
    local value = start + width
    at = value + size
    local node = sub(blob, start, value - 1)
    local place = group.known[node]
    if not place then
      place = group.n + 1
      group.n = place
      group.known[node] = place
      group.nodes[place] = node
      group.order[place] = count
    end
    count = count + 1
    group.values[place] = sub(blob, value, at - 1)
  end
  -- One more than records, so that every write can be told from those before it.
  local base = tonumber(held[3]) + 1
  local after = string.format('%.0f', base + count)
  redis.call('HSET', run, 'sequence', after, ...)
  for number, group in pairs(groups) do
    local key = KEYS[offset + number]
    local nodes, values, order = group.nodes, group.values, group.order
    redis.call('SADD', KEYS[2], sub(key, -32))
    -- Lua hands no more than some thousand values to one call.
    for first = 1, group.n, 1000 do
      local last = math.min(first + 999, group.n)
      local known = redis.call('HMGET', key, unpack(nodes, first, last))
      local fields = {}
      for i = first, last do
        local was = known[i - first + 1]
        local stamp = was and sub(was, 1, 6) or struct.pack('>I6', base + order[i])
        fields[#fields + 1] = nodes[i]
        fields[#fields + 1] = stamp .. values[i]
      end
      redis.call('HSET', key, unpack(fields))
    end
  end
  return after
end
"""

WRITE: Final = (
    _FENCE
    + _KEEP
    + """
-- KEYS: run, scopes, the scopes to forget, the scopes of the records.
-- ARGV: those of the fence, lease_until, updated, how many scopes to forget, records.
local forgotten = tonumber(ARGV[6])
for i = 3, 2 + forgotten do
  redis.call('UNLINK', KEYS[i])
  redis.call('SREM', KEYS[2], string.sub(KEYS[i], -32))
end
return keep(ARGV[7], 3 + forgotten, 'lease_until', ARGV[4], 'updated', ARGV[5])
"""
)

TAKE: Final = (
    _FENCE
    + _KEEP
    + """
-- KEYS: run, scopes, signals, taken, the scope of the record.
-- ARGV: those of the fence, updated, the number of the signal, records.
if redis.call('HDEL', KEYS[3], ARGV[5]) == 1 then
  -- So that a sender who lost its connection, and sends again, does not bring it back.
  redis.call('ZADD', KEYS[4], ARGV[5], ARGV[5])
  redis.call('ZREMRANGEBYRANK', KEYS[4], 0, -101)
end
return keep(ARGV[6], 5, 'updated', ARGV[4])
"""
)

FINISH: Final = (
    _FENCE
    + """
-- KEYS: run.
-- ARGV: those of the fence, status, ended, then the error if there is one.
redis.call('HSET', run, 'status', ARGV[4], 'updated', ARGV[5], 'host', '', 'owner', '', 'lease_until', '0.0')
if ARGV[6] then
  redis.call('HSET', run, 'error', ARGV[6])
else
  redis.call('HDEL', run, 'error')
end
return held[3]
"""
)

SEND: Final = """
-- KEYS: signals, taken.  ARGV: the number of the signal, the signal.
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
"""

RECORDS: Final = """
-- KEYS: run, scopes.
local scopes = redis.call('SMEMBERS', KEYS[2])
local found = {}
for i, scope in ipairs(scopes) do
  found[i] = redis.call('HGETALL', KEYS[1] .. ':scope:' .. scope)
end
return {scopes, found}
"""

OUTLINE: Final = """
-- KEYS: run, scopes.  ARGV: where what is stored of a record has the length of its payload, with which it ends.
-- One record after another: the server has no more than one whole payload in hand.
local at = tonumber(ARGV[1])
local scopes = redis.call('SMEMBERS', KEYS[2])
local found = {}
for i, scope in ipairs(scopes) do
  local key = KEYS[1] .. ':scope:' .. scope
  local fields = {}
  for _, node in ipairs(redis.call('HKEYS', key)) do
    local stored = redis.call('HGET', key, node)
    local length = #stored > at + 3 and struct.unpack('<i4', stored, at + 1) or 0
    fields[#fields + 1] = node
    fields[#fields + 1] = length > 0 and string.sub(stored, 1, #stored - length) or stored
  end
  found[i] = fields
end
return {scopes, found}
"""

NOTE: Final = (
    _FENCE
    + """
-- KEYS: run, lines.
-- ARGV: those of the fence, how many lines to keep, then the number of each line and the line.
redis.call('ZREMRANGEBYSCORE', KEYS[2], ARGV[5], '+inf')
for first = 5, #ARGV, 1000 do
  redis.call('ZADD', KEYS[2], unpack(ARGV, first, math.min(first + 999, #ARGV)))
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -ARGV[4] - 1)
return held[3]
"""
)

REMOVE: Final = """
-- KEYS: run, scopes, signals, taken, lines.
for _, scope in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  redis.call('UNLINK', KEYS[1] .. ':scope:' .. scope)
end
redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4], KEYS[5])
return redis.call('UNLINK', KEYS[1])
"""

_FORGET: Final = """
-- KEYS: values, used, expires, bytes.
local function forget(key)
  local size = redis.call('HSTRLEN', KEYS[1], key)
  redis.call('ZREM', KEYS[2], key)
  redis.call('ZREM', KEYS[3], key)
  redis.call('DECRBY', KEYS[4], size)
  return redis.call('HDEL', KEYS[1], key)
end
"""

CACHED: Final = """
-- KEYS: values, used, expires, bytes.  ARGV: key, now.
local expires = redis.call('ZSCORE', KEYS[3], ARGV[1])
if expires and tonumber(expires) <= tonumber(ARGV[2]) then
  return false
end
redis.call('ZADD', KEYS[2], 'XX', ARGV[2], ARGV[1])
return redis.call('HGET', KEYS[1], ARGV[1])
"""

CACHE: Final = (
    _FORGET
    + """
-- ARGV: key, payload, now, expires or '', most bytes.
local key, most = ARGV[1], tonumber(ARGV[5])
forget(key)
if #ARGV[2] > most then
  return
end
redis.call('HSET', KEYS[1], key, ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[3], key)
if ARGV[4] ~= '' then
  redis.call('ZADD', KEYS[3], ARGV[4], key)
end
local bytes = redis.call('INCRBY', KEYS[4], #ARGV[2])
while bytes > most do
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 1)
  -- What is kept now is not the least recently used, even if the clock was set back.
  forget(oldest[1] ~= key and oldest[1] or oldest[2])
  bytes = tonumber(redis.call('GET', KEYS[4]))
end
"""
)

UNCACHE: Final = _FORGET + "return forget(ARGV[1])\n"

EXPIRE: Final = (
    _FORGET
    + """
-- ARGV: now, how many at most.
local expired = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, key in ipairs(expired) do
  forget(key)
end
return #expired
"""
)
