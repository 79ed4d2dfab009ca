//! The Lua that Redis runs for us: what must be one step.
//!
//! What holds: a script touches keys of one slot only; those that a reader needs in
//! order to settle run also when memory is full, or it could never become less full.

use fred::interfaces::Resp3Frame as Frame;
use fred::types::Value;

use super::error::Fault;
use super::keys::Key;
use super::session::Session;

/// A script.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script(&'static str);

impl Script {
    pub(super) async fn run(self, session: &Session, keys: &[&Key], arguments: Vec<Value>) -> Result<Frame, Fault> {
        let Some(first) = keys.first() else {
            return Err(Fault::unexpected("a script without keys"));
        };
        let mut all = Vec::with_capacity(2 + keys.len() + arguments.len());
        all.push(Value::Bytes(self.0.into()));
        all.push(Value::Integer(i64::try_from(keys.len()).unwrap_or_default()));
        all.extend(keys.iter().map(|key| key.value()));
        all.extend(arguments);
        session.call("EVAL", first.hash(), all).await
    }
}

/// Begins, or finds, a topic. KEYS: topic. ARGV: id, epoch, shards, field, value, ...
/// Returns the topic's fields as they are now.
pub(super) const MAKE_TOPIC: Script = Script(
    "if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'state', 'making', 'id', ARGV[1], 'epoch', ARGV[2], 'shards', ARGV[3], unpack(ARGV, 4))
end
return redis.call('HGETALL', KEYS[1])",
);

/// Makes the stream of a shard, if it is not there. KEYS: stream. ARGV: epoch.
pub(super) const MAKE_STREAM: Script = Script(
    "if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('XGROUP', 'CREATE', KEYS[1], 'meridian', '0', 'MKSTREAM')
  redis.call('XGROUP', 'DESTROY', KEYS[1], 'meridian')
  redis.call('XSETID', KEYS[1], ARGV[1] .. '-0')
end
return 1",
);

/// Sets fields of a topic if it is still the one that is meant. KEYS: topic. ARGV: id,
/// state that it must have, field, value, ... Returns 1 if it was.
pub(super) const CHANGE_TOPIC: Script = Script(
    "if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] or redis.call('HGET', KEYS[1], 'state') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
return 1",
);

/// Raises the epoch of a shard: appends under an older one are refused from now on.
/// KEYS: stream, epochs. ARGV: epoch. Returns the position at which it begins.
pub(super) const RAISE_EPOCH: Script = Script(
    "local known = redis.call('HGET', KEYS[2], ARGV[1])
if known then return known end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
local last
for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
local sequence = string.match(last, '%-(%d+)$')
redis.call('XSETID', KEYS[1], ARGV[1] .. '-' .. sequence)
redis.call('HSET', KEYS[2], ARGV[1], sequence)
return sequence",
);

/// Where a group stands in a shard; makes the group, takes or renews the ownership.
/// KEYS: stream, owner. ARGV: group, member, session in ms, mode (take, keep, look, extent: of no group),
/// start (earliest, latest, none).
/// Returns owner, stream there, group made, last id, first id, delivered id, pending, lowest pending id.
pub(super) const STAND: Script = Script(
    "#!lua flags=allow-oom
local owner
if ARGV[4] ~= 'extent' then owner = redis.call('GET', KEYS[2]) end
if ARGV[4] == 'take' or ARGV[4] == 'keep' then
  if owner == ARGV[2] then
    redis.call('PEXPIRE', KEYS[2], ARGV[3])
  elseif not owner and ARGV[4] == 'take' then
    redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
    owner = ARGV[2]
  end
end
if redis.call('EXISTS', KEYS[1]) == 0 then return {owner or '', 0, 0, '', '', '', 0, ''} end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
local last, first = '', ''
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then last = info[i + 1]
  elseif info[i] == 'first-entry' and info[i + 1] then first = info[i + 1][1] end
end
local function find()
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local fields = {}
    for i = 1, #group, 2 do fields[group[i]] = group[i + 1] end
    if fields['name'] == ARGV[1] then return fields end
  end
end
local group, made = find(), 0
if not group then
  if ARGV[5] == 'none' then return {owner or '', 1, 0, last, first, '', 0, ''} end
  local id = last
  if ARGV[5] == 'earliest' and first ~= '' then
    local epoch, sequence = string.match(first, '^(%d+)%-(%d+)$')
    id = epoch .. '-' .. string.format('%.0f', tonumber(sequence) - 1)
  end
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], id)
  group, made = find(), 1
end
local lowest = ''
if group['pending'] > 0 then lowest = redis.call('XPENDING', KEYS[1], ARGV[1])[2] end
return {owner or '', 1, made, last, first, group['last-delivered-id'], group['pending'], lowest}",
);

/// Puts a name into a set. KEYS: set. ARGV: name.
pub(super) const NOTE: Script = Script(
    "#!lua flags=allow-oom
return redis.call('SADD', KEYS[1], ARGV[1])",
);

/// Sets a key that is not there; returns what it is then. KEYS: key. ARGV: value, its life in ms (0: for ever).
pub(super) const SET_ONCE: Script = Script(
    "#!lua flags=allow-oom
local known = redis.call('GET', KEYS[1])
if known then return known end
if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1]) else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return ARGV[1]",
);

/// Settles entries, if the member still owns the shard. KEYS: stream, owner. ARGV: member, group, id, ...
/// Returns -1 if it does not.
pub(super) const ACK: Script = Script(
    "#!lua flags=allow-oom
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return -1 end
return redis.call('XACK', KEYS[1], ARGV[2], unpack(ARGV, 3))",
);

/// Makes a group that is gone again. KEYS: stream, owner. ARGV: member, group, id. Returns -1 for one who does not
/// own the shard, 0 if there is no stream.
pub(super) const MAKE_GROUP: Script = Script(
    "#!lua flags=allow-oom
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return -1 end
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  if group[2] == ARGV[2] then return 1 end
end
redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[2], ARGV[3])
return 1",
);

/// Moves where the owner's group stands back over entries that nobody was told of.
/// KEYS: stream, owner. ARGV: member, group, id to stand at, id, ...
pub(super) const PUT_BACK: Script = Script(
    "#!lua flags=allow-oom
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return -1 end
redis.call('XGROUP', 'SETID', KEYS[1], ARGV[2], ARGV[3])
if ARGV[4] then redis.call('XACK', KEYS[1], ARGV[2], unpack(ARGV, 4)) end
return 1",
);

/// Moves the owner's group on. KEYS: stream, owner. ARGV: member, group, id.
pub(super) const MOVE_GROUP: Script = Script(
    "#!lua flags=allow-oom
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return -1 end
redis.call('XGROUP', 'SETID', KEYS[1], ARGV[2], ARGV[3])
return 1",
);

/// Gives a shard up; forgets the consumer when nothing is pending for it, and only then.
/// KEYS: stream, owner. ARGV: member, group.
pub(super) const GIVE_UP: Script = Script(
    "#!lua flags=allow-oom
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  if group[2] == ARGV[2] then
    for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[2])) do
      if consumer[2] == ARGV[1] and consumer[4] == 0 then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[2], ARGV[1])
      end
    end
  end
end
return 1",
);

/// A member shows that it lives, or leaves. KEYS: members, subscriptions. ARGV: member, session in ms, what it
/// reads, 1 to leave. Returns member, what it reads, ... of those who live.
pub(super) const LIVE: Script = Script(
    "#!lua flags=allow-oom
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  redis.call('ZREM', KEYS[1], dead)
  redis.call('HDEL', KEYS[2], dead)
end
if ARGV[4] == '1' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
elseif ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
end
local live = {}
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  live[#live + 1] = member
  live[#live + 1] = redis.call('HGET', KEYS[2], member) or ''
end
return live",
);

/// Moves a group, if nobody owns the shard. KEYS: stream, owner. ARGV: group, id, 1 to change anything.
/// Returns -1 if somebody does, -2 without such a group.
pub(super) const RESET_GROUP: Script = Script(
    "if redis.call('GET', KEYS[2]) then return -1 end
if redis.call('EXISTS', KEYS[1]) == 0 then return -2 end
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  if group[2] == ARGV[1] then
    if ARGV[3] == '1' then
      redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1])
      redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], ARGV[2])
    end
    return 1
  end
end
return -2",
);

/// Forgets a group in one shard, if nobody owns it. KEYS: stream, owner. ARGV: group.
pub(super) const DELETE_GROUP: Script = Script(
    "if redis.call('GET', KEYS[2]) then return -1 end
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
return redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1])",
);

/// Removes entries before an id, but none that a group has not settled. KEYS: stream. ARGV: id.
/// Returns how many were removed.
pub(super) const TRIM: Script = Script(
    "#!lua flags=allow-oom
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local function before(left, right)
  local le, ls = string.match(left, '^(%d+)%-(%d+)$')
  local re, rs = string.match(right, '^(%d+)%-(%d+)$')
  if #le ~= #re then return #le < #re end
  if le ~= re then return le < re end
  return tonumber(ls) < tonumber(rs)
end
local cut = ARGV[1]
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local fields = {}
  for i = 1, #group, 2 do fields[group[i]] = group[i + 1] end
  local keep
  if fields['pending'] > 0 then
    keep = redis.call('XPENDING', KEYS[1], fields['name'])[2]
  else
    local epoch, sequence = string.match(fields['last-delivered-id'], '^(%d+)%-(%d+)$')
    keep = epoch .. '-' .. string.format('%.0f', tonumber(sequence) + 1)
  end
  if before(keep, cut) then cut = keep end
end
return redis.call('XTRIM', KEYS[1], 'MINID', '=', cut)",
);
