"""`python -m subterra_jobs.evaluate.analysis.served`."""

from subterra_jobs.evaluate.analysis.served.monitor import main

main()
