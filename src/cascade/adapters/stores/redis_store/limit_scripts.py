"""What the server does at once for settings and for limits that are shared: one Lua script for each change.

`KEYS` and `ARGV` are described above each script. Numbers with a fraction go as text, as Python writes them.
"""

from __future__ import annotations

from typing import Final

EXPIRE_SETTINGS: Final = """
-- KEYS: settings.  ARGV: now.
local flat, expired = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #flat, 2 do
  local ends = tonumber(string.match(flat[i + 1], '^%S*'))
  if ends and ends <= tonumber(ARGV[1]) then
    expired = expired + redis.call('HDEL', KEYS[1], flat[i])
  end
end
return expired
"""

_SLOTS: Final = """
-- KEYS: slots.
-- What a holder has of a scope is kept as the text 'count until claim': the claim is that of the last change, which so
-- finds itself when repeated.
local function key_of(scope)
  return KEYS[1] .. ':' .. scope
end
local function read(stored)
  local count, ends, claim = string.match(stored, '^(%d+) (%S+) (%S+)$')
  return tonumber(count), tonumber(ends), claim, ends
end
local function keep(scope, holder, count, ends, claim)
  redis.call('HSET', key_of(scope), holder, string.format('%.0f', count) .. ' ' .. ends .. ' ' .. claim)
  redis.call('SADD', KEYS[1], scope)
end
local function forget(scope, holder)
  redis.call('HDEL', key_of(scope), holder)
  if redis.call('EXISTS', key_of(scope)) == 0 then
    redis.call('SREM', KEYS[1], scope)
  end
end
-- Forgets holders whose time is over: one that renews its slots later must not have them again.
-- Gives how many holders that were, how many slots the others have, and what each of those has.
local function free(scope, now)
  local flat = redis.call('HGETALL', key_of(scope))
  local freed, taken, held = 0, 0, {}
  for i = 1, #flat, 2 do
    local count, ends = read(flat[i + 1])
    if ends <= now then
      forget(scope, flat[i])
      freed = freed + 1
    else
      taken = taken + count
      held[flat[i]] = flat[i + 1]
    end
  end
  return freed, taken, held
end
"""

TAKE_SLOTS: Final = (
    _SLOTS
    + """
-- ARGV: scope, holder, this claim, how many, limit, now, until.
local scope, holder = ARGV[1], ARGV[2]
local _, taken, held = free(scope, tonumber(ARGV[6]))
local own, claim = 0, nil
if held[holder] then
  own, _, claim = read(held[holder])
end
if claim == ARGV[3] then
  return 1
end
if taken + tonumber(ARGV[4]) > tonumber(ARGV[5]) then
  return 0
end
keep(scope, holder, own + tonumber(ARGV[4]), ARGV[7], ARGV[3])
return 1
"""
)

GIVE_SLOTS: Final = (
    _SLOTS
    + """
-- ARGV: scope, holder, this claim, how many.
local scope, holder = ARGV[1], ARGV[2]
local stored = redis.call('HGET', key_of(scope), holder)
if not stored then
  return
end
local own, _, claim, ends = read(stored)
if claim == ARGV[3] then
  return
end
if own > tonumber(ARGV[4]) then
  keep(scope, holder, own - tonumber(ARGV[4]), ends, ARGV[3])
else
  forget(scope, holder)
end
"""
)

RENEW_SLOTS: Final = (
    _SLOTS
    + """
-- ARGV: holder, until.
for _, scope in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local stored = redis.call('HGET', key_of(scope), ARGV[1])
  if stored then
    local own, _, claim = read(stored)
    keep(scope, ARGV[1], own, ARGV[2], claim)
  end
end
"""
)

EXPIRE_SLOTS: Final = (
    _SLOTS
    + """
-- ARGV: now.
local expired = 0
for _, scope in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  expired = expired + free(scope, tonumber(ARGV[1]))
end
return expired
"""
)

TAKE_FROM_BUCKET: Final = """
-- KEYS: buckets, full.
-- A bucket is kept as the text 'tokens moment claim': the claim is that of the last taker, which so finds itself when
-- repeated. If somebody else has taken a token meanwhile, one too many is lost, and never one too many taken.
-- ARGV: scope, this claim, rate, burst, now, by how much a clock is behind if it was set back.
local rate, burst, now = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local tokens, at, claim = burst, now, ''
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored then
  tokens, at, claim = string.match(stored, '^(%S+) (%S+) (%S*)$')
  tokens, at = tonumber(tokens), tonumber(at)
  if claim == ARGV[2] then
    return '0'
  end
end
local set_back = at - now > tonumber(ARGV[6])
if set_back then
  at = now
end
if now > at then
  tokens = tokens + (now - at) * rate
  at = now
end
tokens = math.min(burst, tokens)
local wait = 0
if tokens < 1 then
  wait = at - now + (1 - tokens) / rate
end
-- A wait that is lost between two readings of the clock is none; it is owed by those who come later.
local taken = now + wait / 2 == now
if taken then
  tokens, claim = tokens - 1, ARGV[2]
end
if taken or set_back then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.17g %.17g %s', tokens, at, claim))
  redis.call('ZADD', KEYS[2], string.format('%.17g', at + (burst - tokens) / rate), ARGV[1])
end
return taken and '0' or string.format('%.17g', wait)
"""

EXPIRE_BUCKETS: Final = """
-- KEYS: buckets, full.  ARGV: now, how many at most.
local expired = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, scope in ipairs(expired) do
  redis.call('HDEL', KEYS[1], scope)
  redis.call('ZREM', KEYS[2], scope)
end
return #expired
"""
