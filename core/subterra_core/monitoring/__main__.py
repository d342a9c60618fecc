"""`python -m subterra_core.monitoring`."""

import sys

from subterra_core.monitoring.generated_files import main

sys.exit(main())
