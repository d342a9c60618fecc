"""The checks: packages, GPUs, a matrix product, a compiled kernel, an optimizer, a training step, a Ray task, vLLM."""

import importlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from subterra_api.job_contract.environment import MODELS_DIRECTORY
from subterra_api.job_contract.messages import Training
from subterra_jobs.selftest.check_runner import Check, CheckRequest, NotApplicableError
from subterra_jobs.stage.visible_gpus import require_gpus
from subterra_jobs.train.exchange import HELD_OUT_FILE, SCRATCH, TRAIN_FILE, TrainingTask

PACKAGES = ("anthropic", "openai", "fsspec", "s3fs", "scipy", "httpx", "jinja2", "langgraph", "prometheus_client")
SIZE = 512
STEPS = 10
SYSTEM_PROMPT = "You are a helpful assistant."
TURNS = ("Hello!", "Where would you like to go?", "To Lima.", "Lima it is. Goodbye!")
CONVERSATIONS = 16
BUNDLED = Path(MODELS_DIRECTORY, "SmolLM2-135M-Instruct")


def packages(_: CheckRequest) -> str:
    """The clients and libraries of all stages can be imported."""
    for name in PACKAGES:
        importlib.import_module(name)
    return f"{len(PACKAGES)} packages"


def gpus(request: CheckRequest) -> str:
    """As many GPUs are visible as were asked for."""
    import torch

    require_gpus(request.gpus)
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if not names:
        raise NotApplicableError("no GPU was asked for, and none is visible")
    return ", ".join(names)


def torch_product(_: CheckRequest) -> str:
    """A product of matrices is right, on the GPU where there is one."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    left, right = (torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    exact = left.double() @ right.double()
    for dtype, tolerance in ((torch.float32, 1e-2), (torch.bfloat16, 2.0)):
        found = (left.to(device, dtype) @ right.to(device, dtype)).cpu().double()
        worst = float((found - exact).abs().max())
        if worst > tolerance:
            raise RuntimeError(f"a product of matrices in {dtype} on {device} is wrong by {worst:.3g}")
    return f"torch {torch.__version__}, {SIZE} × {SIZE} in float32 and bfloat16 on {device}"


def triton_kernel(_: CheckRequest) -> str:
    """A kernel is compiled and runs: TRL's loss needs that on a GPU, and a C compiler and Python's headers for it."""
    import torch

    if not torch.cuda.is_available():
        raise NotApplicableError("Triton compiles for GPUs only, and none is visible")
    from subterra_jobs.selftest.doubling_kernel import doubled

    values = torch.arange(1000, device="cuda", dtype=torch.float32)
    if not torch.equal(doubled(values), values * 2):
        raise RuntimeError("a compiled kernel gives wrong results")
    return f"triton {importlib.import_module('triton').__version__}"


def optimizer_steps(_: CheckRequest) -> str:
    """AdamW with 8-bit states moves weights in bfloat16 by small steps, on the GPU where there is one."""
    import torch

    from subterra_jobs.train.optimizers.bfloat16_adamw import Bfloat16AdamW

    device, rate = "cuda" if torch.cuda.is_available() else "cpu", 2e-5
    weights = torch.nn.Parameter(torch.full((2048, 2048), 0.02, device=device, dtype=torch.bfloat16))
    before, optimizer = weights.detach().float().mean(), Bfloat16AdamW([weights], rate, (0.9, 0.95), 0.0, eight_bits=True, seed=1)
    weights.grad = torch.ones_like(weights, dtype=torch.float32)
    started = time.monotonic()
    for _step in range(STEPS):
        optimizer.step()
    moved = float(before - weights.detach().float().mean())
    seconds = (time.monotonic() - started) / STEPS
    if abs(moved / (STEPS * rate) - 1) > 0.05:
        raise RuntimeError(f"{STEPS} steps of {rate} on {device} moved weights by {moved:.3g} on average")
    return f"AdamW with 8-bit states, {seconds * 1e9 / weights.numel():.1f} s for a step of a billion weights on {device}"


def training_step(request: CheckRequest) -> str:
    """One step of the train stage's own training, with as many ranks as GPUs, and the export of its model."""
    import torch

    from subterra_jobs.train.training import train

    ranks = max(1, torch.cuda.device_count() if torch.cuda.is_available() else 0)
    pretrained = torch.cuda.is_available() and BUNDLED.is_dir()
    task = TrainingTask(
        dataset_dir=_dataset(request.work / "data", CONVERSATIONS * ranks),
        output_dir=request.work / "model",
        checkpoint_dir=request.work / "checkpoints",
        base_model=str(BUNDLED) if pretrained else SCRATCH,
        system_prompt=SYSTEM_PROMPT,
        wordings=TURNS,
        settings=_one_step(2 * ranks, pretrained=pretrained),
        ranks=ranks,
    )
    summary = train(task, lambda *_: None)
    name = BUNDLED.name if pretrained else "tiny model"
    return f"{name}, DeepSpeed and TRL, ranks: {ranks}, {summary.precision}, held-out loss {summary.heldout_loss:.3f}"


def _one_step(batch: int, *, pretrained: bool) -> Training:
    return Training(
        optimizer="adamw" if pretrained else "muon",
        learning_rate=1e-4,
        epochs=1,
        max_steps=1,
        batch_size=batch,
        max_length=256,
        zero_stage=3 if pretrained else 2,
        seed=1,
        checkpoint_steps=1,
    )


def _dataset(folder: Path, conversations: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    turns = [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, TURNS, strict=True)]
    line = json.dumps({"messages": [{"role": "system", "content": SYSTEM_PROMPT}, *turns]}) + "\n"
    for name in (TRAIN_FILE, HELD_OUT_FILE):
        (folder / name).write_text(line * conversations)
    return folder


def ray_task(_: CheckRequest) -> str:
    """Ray starts and runs a task in another process."""
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        answer = ray.get(ray.remote(lambda: 6 * 7).remote(), timeout=120)
    finally:
        ray.shutdown()
    if answer != 42:
        raise RuntimeError(f"a task answered {answer} instead of 42")
    return f"ray {ray.__version__}"


def vllm_reply(request: CheckRequest) -> str:
    """VLLM can be imported; on a GPU it answers with the model that was trained a moment ago."""
    import torch

    vllm = importlib.import_module("vllm")
    model = request.work / "model"
    if not torch.cuda.is_available():
        return f"vllm {vllm.__version__} can be imported; it answers in the evaluation's tests"
    if not (model / "config.json").is_file():
        raise NotApplicableError("there is no model to load; run the check training too")
    server = vllm.LLM(model=str(model), max_model_len=256, enforce_eager=True, gpu_memory_utilization=0.5)
    [reply] = server.chat([{"role": "user", "content": TURNS[0]}], vllm.SamplingParams(temperature=0, max_tokens=8))
    return f"vllm {vllm.__version__}, {len(reply.outputs[0].token_ids)} tokens by the model of the check training"


CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "packages": packages,
        "gpus": gpus,
        "torch": torch_product,
        "triton": triton_kernel,
        "optimizer": optimizer_steps,
        "training": training_step,
        "ray": ray_task,
        "vllm": vllm_reply,
    }
)
