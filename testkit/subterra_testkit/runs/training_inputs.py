"""Small inputs for training tests, with good defaults."""

import json
import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from subterra_api.job_contract.defaults import training_of
from subterra_api.job_contract.messages import Training
from subterra_api.v1alpha1.training_settings import TrainingSettings
from subterra_jobs.train.exchange import OnProgress, TrainingTask

SYSTEM_PROMPT = "You are a helpful travel assistant."
WORDINGS = (
    "Hi",
    "Where would you like to go?",
    "To {{city}}, please.",
    "Great, {{city}} it is. Shall I book {{city}}?",
    "Yes, please.",
    "Your trip to {{city}} is booked.",
)


def training(**changes: Any) -> Training:
    """Settings for a training that takes seconds."""
    small = {"max_steps": 6, "checkpoint_steps": 2, "batch_size": 4, "max_length": 256}
    return training_of(TrainingSettings(**(small | changes)), "scratch")


def training_task(folder: Path, **changes: Any) -> TrainingTask:
    """A training of the scratch model on ``folder``/data; ``changes`` are settings as for `training`."""
    return TrainingTask(
        dataset_dir=folder / "data",
        output_dir=folder / "model",
        checkpoint_dir=folder / "checkpoints",
        base_model="scratch",
        system_prompt=SYSTEM_PROMPT,
        wordings=WORDINGS,
        settings=training(**changes),
    )


def conversation(city: str, *, opener: str | None = "Hi") -> list[dict[str, str]]:
    """A conversation about one city; the agent speaks first if ``opener`` is `None`."""
    turns = [
        WORDINGS[1],
        f"To {city}, please.",
        f"Great, {city} it is. Shall I book {city}?",
        "Yes, please.",
        f"Your trip to {city} is booked.",
    ]
    roles = ["assistant", "user", "assistant", "user", "assistant"]
    start = [{"role": "system", "content": SYSTEM_PROMPT}, *([{"role": "user", "content": opener}] if opener else [])]
    return start + [{"role": role, "content": text} for role, text in zip(roles, turns, strict=True)]


def write_jsonl(path: Path, conversations: Sequence[list[dict[str, str]]]) -> None:
    """Writes a dataset file with these conversations."""
    path.write_text("".join(json.dumps({"id": f"c{n}", "messages": messages}) + "\n" for n, messages in enumerate(conversations)))


def dataset(directory: Path, train: int = 40, held_out: int = 8) -> Path:
    """A dataset directory with made-up cities."""
    rng = random.Random(1)
    directory.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train), ("heldout", held_out)):
        cities = ["".join(rng.choices("abcdefghijklmnop", k=6)).capitalize() for _ in range(count)]
        write_jsonl(directory / f"{name}.jsonl", [conversation(city, opener=rng.choice(["Hi", None])) for city in cities])
    return directory


def terminated_after(last: int, losses: list[float]) -> OnProgress:
    """Progress of a training that gets SIGTERM at the first report after step `last`; `losses` gets those until then."""

    def progress(step: int, total: int, loss: float | None, heldout_loss: float | None) -> None:
        if loss is not None:
            losses.append(loss)
        if step > last:
            os.kill(os.getpid(), signal.SIGTERM)

    return progress
