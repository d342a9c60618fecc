-- Healthy: can be compiled. Degraded: the message names every error with its fix.
local status = obj.status or {}

if status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "the operator has not reconciled this generation yet" }
end
for _, item in ipairs(status.conditions or {}) do
  if item.type == "Accepted" then
    return { status = item.status == "True" and "Healthy" or "Degraded", message = item.message or "" }
  end
end
return { status = "Progressing", message = "not checked by the operator yet" }
