"""The tokenizer of the scratch model, learned from a procedure's own words."""

import calendar
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

from subterra_jobs.train.model.chat_template import IM_END, IM_START, PAD, chat_template
from subterra_jobs.train.model.scratch_model import MAX_POSITIONS
from subterra_jobs.train.model.tool_template import tools_block

VOCABULARY_LIMIT = 2048
MERGES = 40
"""Pairs of letters that are tokens: more make conversations shorter, and rare ones that the model cannot copy."""
_ROLES = ("system", "user", "assistant")
_VARIABLE = re.compile(r"\{\{.*?\}\}")
# A capital and a digit stand apart from the space before them, so that a value has the same tokens wherever it stands:
# copying is then a matter of tokens, not of spelling.
_PIECES = Regex(r"'(?:[sdmt]|ll|ve|re)\b| ?\p{Ll}+|\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s")
_WORD = re.compile(r"(^| )?([^\W\d_]{2,})")


def scratch_tokenizer(wordings: Sequence[str], system_prompt: str, tools: str = "") -> Qwen2Tokenizer:
    """A byte-level tokenizer for a procedure's wordings; every byte is covered.

    ``wordings`` hold values as ``{{variable}}``, which are left out. Words of the procedure are single tokens; all else falls
    into letters and a few frequent pairs of them, so that a value that was never seen looks no different from a listed one.
    It is made of vocabulary and merges alone, because readers of a Qwen2 model rebuild everything else themselves.
    """
    structure = [tools_block(tools)] if tools else []
    texts = (*wordings, system_prompt, *calendar.month_name[1:], *_ROLES, *structure)
    plain = [_VARIABLE.sub(" ", text) for text in texts]
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
    tokenizer.chat_template = chat_template(system_prompt, tools)
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
