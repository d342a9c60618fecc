"""Contract between operator and jobs: run input, results, environment, artifact paths, effective settings."""
