"""Checkpoints of transformers' trainer, bounded in size and time: one state to resume from, and the best weights."""

import logging
import shutil
import time
from collections.abc import Callable
from enum import IntFlag
from pathlib import Path
from typing import Any

import torch

from subterra_jobs.train.checkpoints import resumable
from subterra_jobs.train.checkpoints.best_weights import best_weights, keep_best
from subterra_jobs.train.checkpoints.save_cadence import SaveCadence, shortage

log = logging.getLogger("subterra")


class Save(IntFlag):
    """What is written at a step."""

    NOTHING = 0
    BEST = 1
    RESUMABLE = 2


class BoundedSaves:
    """Mixin for transformers' trainer on DeepSpeed. Its `save_total_limit` must be unset: this removes what is superseded."""

    def __init__(self, *, checkpoint_bytes: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.cadence = SaveCadence()
        self.stopping = False
        """True once the training is asked to end: then its state is saved whether or not a checkpoint is due."""
        self.began = False
        """True from the first step on, when a checkpoint to resume from has been read."""
        self._checkpoint_bytes = checkpoint_bytes

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Writes what rank 0 decides, in place of a checkpoint at every evaluation."""
        directory, step = Path(self.args.output_dir), self.state.global_step  # type: ignore[attr-defined]
        what = Save(_from_rank_0(self._decide(directory) if _is_rank_0() else Save.NOTHING))
        started = time.monotonic()
        source = directory / (f"checkpoint-{step}" if Save.RESUMABLE in what else f"weights-{step}")
        if Save.RESUMABLE in what:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
        elif Save.BEST in what:
            self.save_model(str(source), _internal_call=True)  # type: ignore[attr-defined]
        torch.distributed.barrier()  # until every rank has written its part
        if _is_rank_0() and what:
            self._complete(what, source, directory)
            self.cadence.saved(started, time.monotonic(), resumable=Save.RESUMABLE in what)
        torch.distributed.barrier()

    def _decide(self, directory: Path) -> Save:
        loss, best = self._held_out_loss(), best_weights(directory)
        what = Save.BEST if loss is not None and (best is None or loss < best.heldout_loss) else Save.NOTHING
        if not self.stopping and not self.cadence.due(time.monotonic()):
            return what
        missing = shortage(directory, self._checkpoint_bytes)
        if missing is None:
            return what | Save.RESUMABLE
        log.error("no checkpoint at step %d: %s", self.state.global_step, missing)  # type: ignore[attr-defined]
        return what

    def _held_out_loss(self) -> float | None:
        """The held-out loss of this very step, if it was evaluated."""
        state = self.state  # type: ignore[attr-defined]
        losses = [
            entry["eval_loss"] for entry in state.log_history if entry.get("step") == state.global_step and "eval_loss" in entry
        ]
        return float(losses[-1]) if losses else None

    def _complete(self, what: Save, source: Path, directory: Path) -> None:
        loss = self._held_out_loss()
        if Save.BEST in what and loss is not None:
            keep_best(source, directory, self.state.global_step, loss)  # type: ignore[attr-defined]
        if Save.RESUMABLE in what:
            resumable.mark_complete(source, self.args.world_size)  # type: ignore[attr-defined]
            self._checkpoint_bytes = resumable.size_of(source)
        else:
            shutil.rmtree(source, ignore_errors=True)


def _is_rank_0() -> bool:
    return torch.distributed.get_rank() == 0


def _from_rank_0(decision: int) -> int:
    """The decision of rank 0, on every rank: ranks that went different ways would wait for each other."""
    return _over_ranks(decision, lambda shared: torch.distributed.broadcast(shared, src=0))


def _over_ranks(value: int, exchange: Callable[[torch.Tensor], object]) -> int:
    """What a rank's value has become by a collective operation on it."""
    if torch.distributed.get_world_size() == 1:
        return value
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    shared = torch.tensor([value], device=device)
    exchange(shared)
    return int(shared.item())


def agreed(condition: bool) -> bool:
    """Whether the condition holds on any rank, on every rank."""
    return _over_ranks(int(condition), lambda shared: torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)) > 0
