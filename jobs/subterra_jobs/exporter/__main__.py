"""`python -m subterra_jobs.exporter`."""

from subterra_jobs.exporter.main import main

main()
