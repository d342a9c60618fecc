"""A plain PyTorch loop: what fine-tuning costs without a trainer."""

import time

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from subterra_jobs.train.batches.collators import PaddingCollator
from subterra_jobs.train.batches.step_plan import CPU_MICRO_BATCH_TOKENS
from subterra_jobs.train.exchange import TRAIN_FILE, TrainingTask
from subterra_jobs.train.model.base_model import load_tokenizer, training_dtype
from subterra_jobs.train.tokenized_dataset import IGNORED, load_examples


def train_plainly(task: TrainingTask, steps: int) -> float:
    """Tokens per CPU second from the first to the last step: AdamW on float32 weights, autocast, logits where labels are."""
    tokenizer = load_tokenizer(task.base_model, task.system_prompt, ())
    examples = load_examples(tokenizer, task.dataset_dir / TRAIN_FILE, task.settings.max_length).dataset
    batches = _batches(sorted(examples, key=lambda example: example["length"]), task.settings.batch_size, steps + 1)
    micro = max(1, CPU_MICRO_BATCH_TOKENS // max(examples["length"]))
    collate = PaddingCollator(tokenizer.pad_token_id)
    model = AutoModelForCausalLM.from_pretrained(task.base_model, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=task.settings.learning_rate, betas=(0.9, 0.95))
    tokens, started = 0, 0.0
    for number, batch in enumerate(batches):
        if number == 1:  # the first step warms up
            tokens, started = 0, time.process_time()
        for start in range(0, len(batch), micro):
            part = batch[start : start + micro]
            tokens += sum(example["length"] for example in part)
            with torch.autocast("cpu", training_dtype(task.base_model), enabled=training_dtype(task.base_model) == torch.bfloat16):
                _loss(model, collate(part)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return tokens / (time.process_time() - started)


def _batches(examples: list[dict[str, list[int]]], size: int, count: int) -> list[list[dict[str, list[int]]]]:
    """Batches of similar lengths, spread over all lengths."""
    groups = [examples[start : start + size] for start in range(0, len(examples) - size + 1, size)]
    return [groups[index * len(groups) // count] for index in range(count)]


def _loss(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    hidden = model.model(input_ids=batch["input_ids"], position_ids=batch["position_ids"]).last_hidden_state
    following = batch["labels"][:, 1:]
    labelled = following != IGNORED
    return cross_entropy(model.lm_head(hidden[:, :-1][labelled]).float(), following[labelled])
