"""Run as `PYTHONPATH=cluster python3 -m subterra_cluster up`."""

from subterra_cluster.cli import main

raise SystemExit(main())
