"""The model card: what a compiled model was made from, how, and how to serve it. The same training has the same card."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import copyfile

from subterra_api.job_contract.messages import RunInput, Training
from subterra_jobs.train.training import TrainingSummary

CARD_FILE = "README.md"
LICENSE_FILES = ("LICENSE*", "NOTICE*", "USE_POLICY*")
LIBRARIES = ("torch", "transformers", "trl", "deepspeed")


def write_card(directory: Path, run: RunInput, summary: TrainingSummary) -> None:
    """Writes the card into the model's directory."""
    (directory / CARD_FILE).write_text(model_card(run, summary), "utf-8")


def copy_license(base_model: Path, directory: Path) -> None:
    """Copies license and notice of the base model, whose modified copy this model is, as far as its directory has them."""
    for pattern in LICENSE_FILES:
        for file in base_model.glob(pattern):
            copyfile(file, directory / file.name)


def model_card(run: RunInput, summary: TrainingSummary) -> str:
    """The card's text."""
    settings = _settings(run.training)
    lines = [
        f"# Model compiled from {run.base_model.uri}",
        "",
        "A language model that follows one conversational procedure, compiled by Subterra. The procedure is in `procedure.json`,",
        "and its system prompt in the chat template.",
        "",
        *_table("provenance", _provenance(run)),
        *_table("training", {name: f"{value:g}" if isinstance(value, float) else value for name, value in settings.items()}),
        *_table("result", _result(summary)),
        "## License",
        "",
        f"This is a modified copy of {run.base_model.uri}, whose license applies."
        if run.base_model.uri != "scratch"
        else "The weights were made from nothing: no other model's license applies.",
        "",
        "## Serving",
        "",
        "`vllm serve DIRECTORY`, or any reader of Hugging Face directories from transformers 4.50 on. `generation_config.json`",
        "asks for the likeliest token and limits a reply. Messages are those of the conversation; a system message adds facts",
        "about the customer to the system prompt and cannot replace it.",
    ]
    return "\n".join(lines) + "\n"


def _settings(training: Training) -> dict[str, object]:
    """Settings by name; those of adapters stand with the others."""
    fields: dict[str, object] = training.model_dump(mode="json", by_alias=True, exclude_none=True)
    if training.lora is not None:
        fields |= {f"lora {name}": value for name, value in training.lora}
        del fields["lora"]
    return fields


def _provenance(run: RunInput) -> dict[str, object]:
    teacher = run.generation.teacher
    return {
        "procedure": run.procedure_digest,
        "base model": run.base_model.uri,
        "dataset": run.keys.dataset,
        "model key": run.keys.model,
        "teacher": f"{teacher.name} {teacher.model or ''}".strip(),
        "conversations": f"{run.generation.conversations} for each of the seeds {', '.join(map(str, run.generation.seeds))}",
        **{name: _version(name) for name in (*LIBRARIES, *(("peft",) if run.training.lora else ()))},
    }


def _result(summary: TrainingSummary) -> dict[str, object]:
    return {
        "steps": summary.steps,
        "best step": summary.best_step,
        "held-out loss": _loss(summary.heldout_loss),
        "last training loss": _loss(summary.loss),
        "precision": summary.precision,
        "tokens": summary.tokens,
    }


def _table(title: str, rows: dict[str, object]) -> list[str]:
    return [f"## {title.capitalize()}", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), ""]


def _loss(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f} nats per token of the agent"


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "unknown"
