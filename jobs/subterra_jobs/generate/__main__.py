"""``python -m subterra_jobs.generate [--input FILE] [--attach]``."""

from subterra_jobs.common.stage import main
from subterra_jobs.generate.main import work

main("generate", work)
