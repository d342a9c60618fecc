"""A tiny model trained on a tiny procedure, and damaged copies of it. Training takes a minute or two on one core."""

import json
import random
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from subterra_api.digest import canonical, significant_fields
from subterra_api.job_contract.artifacts import PROCEDURE_FILE
from subterra_api.job_contract.defaults import training_of
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.training_settings import TrainingSettings
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.sampling import fit_values_to_path, sample_path, sample_values
from subterra_jobs.dialogue.scripted import chat_messages, scripted_utterances
from subterra_jobs.train.exchange import TrainingTask
from subterra_jobs.train.main import wordings
from subterra_jobs.train.model.scratch_model import scratch_model
from subterra_jobs.train.model.scratch_tokenizer import scratch_tokenizer
from subterra_jobs.train.training import train
from subterra_testkit.procedures import agent, end, procedure, user

_CITY_NAMES = (
    "Oslo Lisbon Porto Madrid Vienna Prague Dublin Athens Naples Zagreb Tallinn Riga Vilnius Geneva Malaga Seville Bergen Aarhus "
    "Ghent Bruges Krakow Gdansk Sofia Varna Split Tirana"
)
CITIES = tuple(_CITY_NAMES.split())
TRIP = procedure(
    agent("ask", "where", examples=["Where would you like to go?"]),
    user("where", "confirm", examples=["{{city}}", "To {{city}}, please."]),
    agent("confirm", "answer", examples=["Great, {{city}} it is. Shall I book {{city}}?"]),
    user(
        "answer",
        {"to": "booked", "when": "The customer agrees.", "examples": ["Yes, please."]},
        {"to": "ask", "when": "The customer hesitates.", "examples": ["Ask me again."]},
        {"to": "left", "when": "The customer gives up.", "examples": ["No, forget it."]},
    ),
    end("booked", examples=["Your trip to {{city}} is booked."]),
    end("left", outcome="abandonment", examples=["Goodbye then."]),
    start="ask",
    variables=[{"name": "city", "values": list(CITIES)}],
)


def untrained(spec: ProcedureSpec, folder: Path) -> Path:
    """The folder, with a tokenizer for the procedure's words and weights as they are before the first step."""
    words = [text for node in spec.nodes for text in (node.prompt, *node.examples)]
    tokenizer = scratch_tokenizer(words, spec.system_prompt)
    tokenizer.save_pretrained(folder)
    scratch_model(tokenizer, seed=0).save_pretrained(folder)
    return folder


def trained(folder: Path, steps: int = 250) -> Path:
    """Trains a model on TRIP and returns its directory, below ``folder``."""
    graph, data = Graph(TRIP), folder / "data"
    data.mkdir(parents=True)
    for name, seeds in (("train", range(800)), ("heldout", range(800, 820))):
        lines = [json.dumps({"id": str(seed), "messages": _conversation(graph, seed)}) for seed in seeds]
        (data / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    settings = training_of(TrainingSettings(max_steps=steps, max_length=1024, checkpoint_steps=steps), "scratch")
    model = folder / "model"
    task = TrainingTask(
        dataset_dir=data,
        output_dir=model,
        checkpoint_dir=folder / "work",
        base_model="scratch",
        system_prompt=TRIP.system_prompt,
        wordings=wordings(TRIP),
        settings=settings,
    )
    train(task, lambda *_: None)
    (model / PROCEDURE_FILE).write_bytes(canonical(significant_fields(TRIP)))
    return model


def _conversation(graph: Graph, seed: int) -> list[dict[str, str]]:
    rng = random.Random(seed)
    path = sample_path(graph, rng)
    values = fit_values_to_path(graph, path, sample_values(graph.spec.variables, rng, unseen=False), rng)
    return chat_messages(graph.spec.system_prompt, None, scripted_utterances(graph, path, values, rng))


def noised(model: Path, folder: Path, share: float) -> Path:
    """A copy of the model with Gaussian noise on its weights, of ``share`` times each tensor's standard deviation."""
    copy = Path(shutil.copytree(model, folder))
    weights, random_numbers = load_file(copy / "model.safetensors"), torch.Generator().manual_seed(1)
    for name, value in weights.items():
        noise = torch.randn(value.shape, generator=random_numbers, dtype=value.dtype)
        weights[name] = value + share * float(value.std()) * noise if value.numel() > 1 else value
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return copy
