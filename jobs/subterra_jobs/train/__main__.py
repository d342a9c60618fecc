"""Run as ``python -m subterra_jobs.train --input FILE``."""

from subterra_jobs.common import stage
from subterra_jobs.train.main import work

if __name__ == "__main__":
    stage.main("train", work)
