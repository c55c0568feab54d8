-- Send the requests of a file. Each line has method, path, headers and body, separated by tabs; headers are
-- separated by \031. Arguments: the file, the number of lines to skip, and "once" or "again" (restart at its end).
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  prepared, position, first, again = {}, 0, tonumber(args[2]), args[3] == "again"
  local number = 0
  for line in io.lines(args[1]) do
    number = number + 1
    if number > first then
      local method, path, fields, body = line:match("^(.-)\t(.-)\t(.-)\t(.*)$")
      local headers = {}
      for name, value in fields:gmatch("([^:\031]+): ([^\031]*)") do
        headers[name] = value
      end
      prepared[#prepared + 1] = wrk.format(method, path, headers, body ~= "" and body or nil)
    end
  end
end

function request()
  position = position + 1
  if again and position > #prepared then
    position = 1
  end
  return prepared[position] or wrk.format("GET", "/no-request-is-left")
end

function done(summary, latency, _)
  local lost = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "microseconds": %d, "refused": %d, "broken": %d, "p50_us": %d, "p99_us": %d, "sent": %d}\n',
    summary.requests, summary.duration, lost.status, lost.connect + lost.read + lost.write + lost.timeout,
    latency:percentile(50), latency:percentile(99), threads[1]:get("position")))
end
