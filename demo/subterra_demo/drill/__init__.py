"""A fire drill on the demo's cluster: faults are injected, and found and repaired by alerts, dashboards and runbooks."""
