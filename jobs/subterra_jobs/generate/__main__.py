"""``python -m subterra_jobs.generate [--input FILE] [--attach]``."""

from subterra_jobs.generate.main import work
from subterra_jobs.stage.runner import main

main("generate", work)
