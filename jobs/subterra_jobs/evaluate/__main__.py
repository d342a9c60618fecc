"""``python -m subterra_jobs.evaluate --input FILE``: judges the candidate that vLLM serves beside this process."""

from subterra_jobs.evaluate.main import work
from subterra_jobs.stage.runner import main

if __name__ == "__main__":
    main("evaluate", work)
