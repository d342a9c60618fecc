"""``python -m subterra_jobs.evaluate --input FILE``: evaluates the candidate served by vLLM in the same pod."""

from subterra_jobs.evaluate.main import work
from subterra_jobs.stage.runner import main

if __name__ == "__main__":
    main("evaluate", work)
