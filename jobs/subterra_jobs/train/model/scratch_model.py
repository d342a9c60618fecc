"""The `scratch` base model: a tokenizer and a tiny Qwen2, made on the spot for one procedure.

A model this small does not learn from a few thousand conversations to copy a customer's values: with the usual
initialisation it guesses them. Its first weights are therefore computed rather than drawn, so that from step 0 on two
attention heads look for the place where the last three tokens stood before and propose what followed there ("induction").
Nothing pretrained is involved.
"""

import calendar
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from torch import nn
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from subterra_jobs.train.model.chat_template import IM_END, IM_START, PAD, chat_template

VOCABULARY_LIMIT = 2048
MERGES = 40
"""Pairs of letters that are tokens: more make conversations shorter, and rare ones that the model cannot copy."""
_ROLES = ("system", "user", "assistant")
_VARIABLE = re.compile(r"\{\{.*?\}\}")
# A capital and a digit stand apart from the space before them, so that a value has the same tokens wherever it stands:
# copying is then a matter of tokens, not of spelling.
_PIECES = Regex(r"'(?:[sdmt]|ll|ve|re)\b| ?\p{Ll}+|\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s")
_WORD = re.compile(r"(^| )?([^\W\d_]{2,})")

HIDDEN, LAYERS, HEADS, HEAD_SIZE, FEED_FORWARD = 128, 3, 4, 32, 384
MAX_POSITIONS = 4096
EMBEDDING_STD = 0.06
ROPE_THETA = 1e6
LOOK_BACK = 3
"""Tokens that a place is recognised by: with fewer, a value that repeats a pair of letters is copied in circles."""
COPY_HEADS = 2
"""Heads that copy. Each proposes in its own dimensions; one has too few of them to tell all tokens apart."""
LOW_FREQUENCY = 0.006
"""Rotations slower than this (in radians per token) hardly move within a conversation."""
POSITION_STRENGTH, MATCH_STRENGTH, PROPOSAL_STRENGTH = 6.0, 1.5, 0.12


def scratch_tokenizer(wordings: Sequence[str], system_prompt: str) -> Qwen2Tokenizer:
    """A byte-level tokenizer for a procedure's wordings; every byte is covered.

    ``wordings`` hold values as ``{{variable}}``, which are left out. Words of the procedure are single tokens; all else falls
    into letters and a few frequent pairs of them, so that a value that was never seen looks no different from a listed one.
    It is made of vocabulary and merges alone, because readers of a Qwen2 model rebuild everything else themselves.
    """
    plain = [_VARIABLE.sub(" ", text) for text in (*wordings, system_prompt, *calendar.month_name[1:], *_ROLES)]
    frequent = _frequent_merges(plain)
    model = json.loads(frequent.to_str())["model"]
    vocabulary: dict[str, int] = model["vocab"]
    merges: list[tuple[str, str]] = [(first, second) for first, second in model["merges"]]
    for pieces in _words(plain, frequent):
        _add_word(pieces, vocabulary, merges)
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=merges,
        unk_token=PAD,
        eos_token=IM_END,
        pad_token=PAD,
        extra_special_tokens=[IM_START],
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = chat_template(system_prompt)
    return tokenizer


def _frequent_merges(texts: Sequence[str]) -> Tokenizer:
    """Bytes and the most frequent merges of them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_PIECES, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=3 + 256 + MERGES,
        special_tokens=[PAD, IM_START, IM_END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _words(texts: Sequence[str], tokenizer: Tokenizer) -> list[list[str]]:
    """The words of the procedure, each as the pieces that it has so far; the most frequent first."""
    counts = Counter(word for text in texts for word in _beginnings(text))
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    return [tokenizer.encode(word).tokens for word in ordered]


def _beginnings(text: str) -> Iterator[str]:
    """The words of a text: small ones with the space before them, those with a capital without."""
    for space, word in _WORD.findall(text):
        if word[0].isupper():
            yield word
        elif space or text.startswith(word):
            yield space + word


def _add_word(pieces: Sequence[str], vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> None:
    """Makes a word one token, growing it from its beginning.

    A beginning holds the space or the capital before the word. So it appears in no value's middle, and values keep falling
    into the same few pieces.
    """
    word = pieces[0]
    for piece in pieces[1:]:
        longer = word + piece
        if longer not in vocabulary:
            if len(vocabulary) >= VOCABULARY_LIMIT:
                return
            vocabulary[longer] = len(vocabulary)
            merges.append((word, piece))
        word = longer


def scratch_config(tokenizer: Qwen2Tokenizer) -> Qwen2Config:
    """The shape of the tiny model. As many KV heads as heads: the initialisation needs both."""
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
    """A tiny Qwen2 in float32 that copies what it has read; the same for the same seed on every machine."""
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

    Layer 0: head d looks back exactly d tokens and writes what stood there into a subspace that the embeddings leave free.
    Layer 1: two heads ask for places before which the same tokens stood, and propose what stands there, each in half of the
    dimensions.
    """
    layers = model.model.layers
    for layer in layers:
        layer.self_attn.o_proj.weight.mul_(0.5)
        layer.mlp.down_proj.weight.mul_(0.5)
    frequencies = ROPE_THETA ** (-torch.arange(HEAD_SIZE // 2) / (HEAD_SIZE // 2))
    # Only slow rotations: what is compared must not depend on how far apart the two places are.
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
    """Makes a head attend to the token ``distance`` places back and write it into ``target``.

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
    """Makes a head find the places before which the latest tokens stood, and propose what stands there.

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
