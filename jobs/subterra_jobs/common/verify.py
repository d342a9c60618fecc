"""The earlier name of `subterra_jobs.store.verify`, which pods of earlier releases run as ``python -m``."""

from subterra_jobs.store.verify import main

if __name__ == "__main__":
    raise SystemExit(main())
