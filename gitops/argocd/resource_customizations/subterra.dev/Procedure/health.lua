-- Healthy: can be compiled. Degraded: the message names every error with its fix. Progressing: a called procedure may still come.
local status = obj.status or {}
local words = { True = "Healthy", False = "Degraded" }

if status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "the operator has not reconciled this generation yet" }
end
for _, item in ipairs(status.conditions or {}) do
  if item.type == "Accepted" then
    return { status = words[item.status] or "Progressing", message = item.message or "" }
  end
end
return { status = "Progressing", message = "not checked by the operator yet" }
