"""Models that one GPU serves one after another: each plays all its conversations while its server runs."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.agents import Arm
from subterra_jobs.evaluate.simulate.conversation_cache import ConversationCache
from subterra_jobs.evaluate.simulate.vllm_client import wait_for_server

START_SECONDS = 600.0
"""Time limit for a vLLM to load its model."""


@dataclass(frozen=True)
class ModelSwitch:
    """Chooses the model that is served, by a file that the servers' container follows; ``clients`` are those of the models."""

    file: Path
    clients: Mapping[str, httpx.AsyncClient]

    async def serve(self, name: str) -> tuple[str, str]:
        """Name and server version of a model, once its server answers and the one before has ended. Raises InfrastructureError."""
        partial = self.file.with_suffix(".new")
        partial.write_text(name)
        partial.rename(self.file)
        return await wait_for_server(self.clients[name], START_SECONDS)


async def play_in_turn(
    switch: ModelSwitch,
    arms: Sequence[Arm],
    scenarios: Sequence[Scenario],
    caches: Mapping[str, ConversationCache],
    play: Callable[[Arm, Sequence[Scenario]], Awaitable[object]],
) -> None:
    """Has each arm play what its cache lacks, so that it needs no server afterwards; the first arm's is started last and stays."""
    for arm in reversed(arms):
        missing = [scenario for scenario in scenarios if caches[arm.name].get(scenario.id) is None]
        if missing or arm is arms[0]:
            await switch.serve(arm.name)
        if missing:
            await play(arm, missing)
