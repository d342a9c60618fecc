"""torchrun that cannot outlive the stage: ``python -m subterra_jobs.train.torchrun`` takes torchrun's arguments.

A rank that went on after its stage was killed would write into the checkpoints of the next attempt.
"""

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Asks Linux to kill this process when the one that started it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent()
    from torch.distributed.run import main

    sys.exit(main())
