"""The tiny model, as it is before its training."""

from pathlib import Path

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_jobs.train.model.scratch_model import scratch_model
from subterra_jobs.train.model.scratch_tokenizer import scratch_tokenizer


def untrained_model(spec: ProcedureSpec, folder: Path) -> Path:
    """The folder, with a tokenizer for the procedure's words and weights as they are before the first step."""
    words = [text for node in spec.nodes for text in (node.prompt, *node.examples)]
    tokenizer = scratch_tokenizer(words, spec.system_prompt)
    tokenizer.save_pretrained(folder)
    scratch_model(tokenizer, seed=0).save_pretrained(folder)
    return folder
