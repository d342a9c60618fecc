"""What the operator and the jobs tell each other: run input, results, environment, artifact paths, effective settings."""
