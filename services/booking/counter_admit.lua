-- Ask a slot's counter about a group of requests. It refuses by what is committed and known for sure, or says nothing.
--
-- KEYS  count, holders, leases of one slot
-- ARGV  system, timeline, started; how long a confirmation lasts, and a lease (ms); "user people" of each request, a line each
-- Returns {state, ...}: where state is 'ok', left, version, the record's age in ms and a letter for each request (room,
-- crowded, leased, holder, full); elsewhere whether a request would find no room. (One string each way: 256 arguments and
-- answers cost the caller more than all the rest.)
local count, holders, leases = KEYS[1], KEYS[2], KEYS[3]
local fresh, lease = tonumber(ARGV[4]), tonumber(ARGV[5])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local got = redis.call('HMGET', count, 'system', 'timeline', 'started', 'known', 'version', 'taken', 'capacity', 'open',
  'seen', 'holders')
local version, taken, seen, members = tonumber(got[5]), tonumber(got[6]), tonumber(got[9]), tonumber(got[10])
local capacity = math.huge
if got[7] and got[7] ~= '' then capacity = tonumber(got[7]) or math.huge end

local state = 'ok'
if not (got[1] and got[4] and version and taken and got[7] and got[8] and seen and members) then state = 'missing'
elseif got[1] ~= ARGV[1] or got[2] ~= ARGV[2] or got[3] ~= ARGV[3] then state = 'foreign'
elseif got[8] ~= '1' then state = 'closed'
elseif got[4] ~= '0-' .. got[5] or redis.call('SCARD', holders) ~= members then state = 'incomplete'
elseif now < seen or now - seen > fresh then state = 'unconfirmed' end

-- A lease's score is its end in ms times 1024, plus how many requests of the user it stands for: 51 bits, exact in a double.
redis.call('ZREMRANGEBYSCORE', leases, '-inf', string.format('(%.0f', now * 1024))
local leased, given = 0, {} -- given: the scores of this call, by user
local function lease_to(user, before)
  if not before then leased = leased + 1 end
  given[user] = string.format('%.0f', (now + lease) * 1024 + math.min(1023, (before and before % 1024 or 0) + 1))
  redis.call('ZADD', leases, given[user], user)
end

local users, party, is_tight = {}, {}, 0
for user, people in string.gmatch(ARGV[6], '(%S+) (%d+)') do
  people = tonumber(people)
  users[#users + 1] = user
  party[#users] = people
  if taken and taken + people > capacity then is_tight = 1 end
end
local earlier = redis.call('ZMSCORE', leases, unpack(users)) -- one call for all: each costs more than what it does
local holds = state == 'ok' and is_tight == 1 and redis.call('SMISMEMBER', holders, unpack(users))

local verdicts = {}
leased = redis.call('ZCARD', leases)
for i, user in ipairs(users) do
  local verdict
  if state ~= 'ok' then verdict = '?'
  elseif taken + party[i] <= capacity then verdict = taken + leased + party[i] > capacity and 'c' or 'r'
  elseif holds[i] == 1 then verdict = 'h'
  elseif earlier[i] or given[user] then verdict = 'l'
  else verdict = 'f' end
  if verdict ~= 'f' and verdict ~= 'h' then lease_to(user, given[user] or earlier[i]) end
  verdicts[i] = verdict
end
redis.call('PEXPIRE', leases, lease)
if state ~= 'ok' then return {state, is_tight} end
return {'ok', capacity == math.huge and -1 or capacity - taken, version, now - seen, table.concat(verdicts)}
