"""Run as ``python -m subterra_jobs.train --input FILE``."""

from subterra_jobs.stage import runner
from subterra_jobs.train.main import assist, work

if __name__ == "__main__":
    runner.main("train", work, assist)
