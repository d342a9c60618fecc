"""`python -m subterra_jobs.evaluate.analysis.served.state`."""

from subterra_jobs.evaluate.analysis.served.state.state_server import main

main()
