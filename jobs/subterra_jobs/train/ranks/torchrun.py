"""torchrun that cannot outlive the stage: ``python -m subterra_jobs.train.ranks.torchrun`` takes torchrun's arguments.

A rank that outlived its killed stage would write into the checkpoints of the next attempt.
"""

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Makes Linux kill this process when its parent exits."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent()
    from torch.distributed.run import main

    sys.exit(main())
