"""The `scratch` base model: a tiny Qwen2 with computed initial weights.

A model this small does not learn from a few thousand conversations to copy a customer's values: with the usual
initialization it guesses them. Its initial weights are therefore computed rather than drawn: from step 0 on, two attention heads
find the earlier position of the last three tokens and propose the token that followed there ("induction"). Nothing pretrained is
involved.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from subterra_jobs.train.model.chat_template import IM_END, PAD

HIDDEN, LAYERS, HEADS, HEAD_SIZE, FEED_FORWARD = 128, 3, 4, 32, 384
MAX_POSITIONS = 4096
EMBEDDING_STD = 0.06
ROPE_THETA = 1e6
LOOK_BACK = 3
"""Tokens that identify a position: with fewer, a value that repeats a pair of letters is copied in circles."""
COPY_HEADS = 2
"""Copying heads. Each writes to its own dimensions; a single one has too few to distinguish all tokens."""
LOW_FREQUENCY = 0.006
"""Rotations slower than this (in radians per token) are nearly constant within a conversation."""
POSITION_STRENGTH, MATCH_STRENGTH, PROPOSAL_STRENGTH = 6.0, 1.5, 0.12


def scratch_config(tokenizer: Qwen2Tokenizer) -> Qwen2Config:
    """The configuration of the tiny model. The initialization needs as many KV heads as heads."""
    return Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=HEAD_SIZE,
        tie_word_embeddings=True,
        max_position_embeddings=MAX_POSITIONS,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        initializer_range=0.02,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(IM_END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
    )


def scratch_model(tokenizer: Qwen2Tokenizer, seed: int) -> Qwen2ForCausalLM:
    """A tiny Qwen2 in float32 that copies from its context; the same for the same seed on every machine."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = scratch_config(tokenizer)
        model = Qwen2ForCausalLM(config).to(torch.float32)
        with torch.no_grad():
            _install_induction(model)
    model.generation_config = GenerationConfig(eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id)
    return model


def _install_induction(model: Qwen2ForCausalLM) -> None:
    """Writes the copying circuit into the weights.

    Layer 0: head d attends to the token d positions back and copies it into a subspace that the embeddings leave free.
    Layer 1: two heads find positions preceded by the same tokens, and propose the token there, each in half of the dimensions.
    """
    layers = model.model.layers
    for layer in layers:
        layer.self_attn.o_proj.weight.mul_(0.5)
        layer.mlp.down_proj.weight.mul_(0.5)
    frequencies = ROPE_THETA ** (-torch.arange(HEAD_SIZE // 2) / (HEAD_SIZE // 2))
    # Only slow rotations: the comparison must not depend on the distance between the two positions.
    slow = torch.nonzero(frequencies < LOW_FREQUENCY).flatten()
    slow = torch.cat([slow, slow + HEAD_SIZE // 2])
    width = len(slow)

    basis = torch.linalg.qr(torch.randn(HIDDEN, HIDDEN))[0].T
    words, past = basis[width * LOOK_BACK :], basis[: width * LOOK_BACK].split(width)
    embedding = model.model.embed_tokens.weight
    embedding.copy_(torch.randn(embedding.shape[0], len(words)) @ words * EMBEDDING_STD)
    match, read = _directions(width, words), _directions(HEAD_SIZE * COPY_HEADS, words)

    for distance, target in enumerate(past, start=1):
        _look_back(layers[0].self_attn, distance, frequencies, match, target)
    for head, part in enumerate(torch.split(read, HEAD_SIZE)):
        _match_past(layers[1].self_attn, head, slow, match, past, part)


def _directions(count: int, space: torch.Tensor) -> torch.Tensor:
    """``count`` orthonormal directions inside the rows of ``space``."""
    directions: torch.Tensor = torch.linalg.qr(torch.randn(len(space), count))[0].T @ space
    return directions


def _look_back(attention: nn.Module, distance: int, frequencies: torch.Tensor, match: torch.Tensor, target: torch.Tensor) -> None:
    """Makes a head attend to the token ``distance`` positions back and write it into ``target``.

    Biases alone do it: RoPE turns a constant key by its position, and a constant query that is turned back by
    ``distance`` meets it there.
    """
    query, key, value, out = _projections(attention)
    start, half = (distance - 1) * HEAD_SIZE, HEAD_SIZE // 2
    own, used = slice(start, start + HEAD_SIZE), slice(start, start + len(match))
    strength = torch.zeros(half)
    strength[:3] = POSITION_STRENGTH
    angle = distance * frequencies
    query.weight[own] *= 0.1
    key.weight[own] *= 0.1
    key.bias[own] = torch.cat([strength, torch.zeros(half)])
    query.bias[own] = torch.cat([strength * angle.cos(), -strength * angle.sin()])
    value.weight[own] = 0.0
    value.weight[used] = match
    out.weight[:, own] = 0.0
    out.weight[:, used] = target.T * EMBEDDING_STD * 1.5


def _match_past(
    attention: nn.Module, head: int, slow: torch.Tensor, match: torch.Tensor, past: Sequence[torch.Tensor], read: torch.Tensor
) -> None:
    """Makes a head find positions preceded by the latest tokens, and propose the token there.

    A random rotation for each distance keeps them apart inside the same few dimensions.
    """
    query, key, value, out = _projections(attention)
    start = head * HEAD_SIZE
    own, wanted, offered = slice(start, start + HEAD_SIZE), match, past[0]
    for newer, older in pairwise(past):
        turn = torch.linalg.qr(torch.randn(len(slow), len(slow)))[0]
        wanted, offered = wanted + turn @ newer, offered + turn @ older
    query.weight[own] *= 0.2
    key.weight[own] *= 0.2
    query.weight[start + slow] = MATCH_STRENGTH * wanted
    key.weight[start + slow] = MATCH_STRENGTH * offered
    value.weight[own] = read
    out.weight[:, own] = read.T * PROPOSAL_STRENGTH


def _projections(attention: nn.Module) -> tuple[nn.Linear, nn.Linear, nn.Linear, nn.Linear]:
    """Query, key, value and output projections of an attention layer."""
    query, key, value, out = (getattr(attention, f"{name}_proj") for name in "qkvo")
    return query, key, value, out
