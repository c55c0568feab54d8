-- Each thread has one connection, with a session of its own.
-- Arguments: "protected" or "rotation", the name of the cookie, and one credential for each thread.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
  thread:set("number", #threads)
end

function init(args)
  if args[1] == "protected" then
    wrk.method, wrk.path = "GET", "/api/protected"
    wrk.headers["Authorization"] = "Bearer " .. args[2 + number]
    return
  end
  wrk.method, wrk.path = "POST", "/api/token"
  wrk.headers["Cookie"] = args[2] .. "=" .. args[2 + number]
  -- Without a function for responses wrk does not parse their headers.
  function response(_, headers, _)
    local cookie = headers["Set-Cookie"]
    if cookie then
      wrk.headers["Cookie"] = cookie:match("^[^;]+")
    end
  end
  function request()
    return wrk.format()
  end
end

function done(summary, latency, _)
  local lost = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "microseconds": %d, "errors": %d, "broken": %d, "p50_us": %d, "p99_us": %d}\n',
    summary.requests, summary.duration, lost.status, lost.connect + lost.read + lost.write + lost.timeout,
    latency:percentile(50), latency:percentile(99)))
end
