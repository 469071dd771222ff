-- What wrk sends: a line of a file is a path and a token, or a path alone. Arguments: the file, the method, the bytes of
-- a body, and "cycle" to begin again at its end or "once" to stop there: a new token is new only once.
local ffi = require("ffi")
ffi.cdef([[
  typedef struct { long tv_sec; long tv_nsec; } bench_time;
  int clock_gettime(int id, bench_time *time);
]])

local lines = {}
local next_line = 0
local once = false
local build
-- Read by done(), in another Lua state: globals of the thread.
first_us = 0
stopped_us = 0

local thread_of_all

function setup(thread)
  thread_of_all = thread
end

local function now_us()
  local time = ffi.new("bench_time")
  ffi.C.clock_gettime(1, time)
  return tonumber(time.tv_sec) * 1e6 + tonumber(time.tv_nsec) / 1e3
end

function init(args)
  local method = args[2]
  local length = tonumber(args[3])
  local body = length > 0 and string.rep("x", length) or nil
  once = args[4] == "once"
  build = function(line)
    local path, token = line:match("^(%S+) (%S+)$")
    local headers = { ["User-Agent"] = "bench", ["Accept"] = "*/*" }
    for name, value in pairs(wrk.headers) do headers[name] = value end
    if token then headers["Authorization"] = "Bearer " .. token end
    return wrk.format(method, path or line, headers, body)
  end
  for line in io.lines(args[1]) do
    -- A file that is sent once may be long: its requests are built as they are sent.
    lines[#lines + 1] = once and line or build(line)
  end
end

function request()
  if next_line == 0 then first_us = now_us() end
  if next_line >= #lines then
    if once then
      if stopped_us == 0 then
        stopped_us = now_us()
        wrk.thread:stop()
      end
      return build(lines[#lines])
    end
    next_line = 0
  end
  next_line = next_line + 1
  return once and build(lines[next_line]) or lines[next_line]
end

function done(summary, latency, requests)
  local errors = summary.errors
  local us = summary.duration
  local stopped = thread_of_all:get("stopped_us")
  -- wrk itself waits for its whole time.
  if stopped > 0 then us = stopped - thread_of_all:get("first_us") end
  io.write(string.format(
    '\nRESULT {"requests":%d,"us":%d,"bytes":%d,"p50":%.3f,"p99":%.3f,"refused":%d,"broken":%d}\n',
    summary.requests, us, summary.bytes, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
