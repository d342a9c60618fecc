"""vLLM's own parser reads the calls that are trained, and a client that sends one back sends the text of training."""

import json

from transformers import Qwen2Tokenizer
from vllm.tool_parsers.hermes_tool_parser import Hermes2ProToolParser

from subterra_core.procedure.tools import function_lines
from subterra_jobs.train.model.scratch_tokenizer import scratch_tokenizer
from subterra_jobs.train.tokenized_dataset import IGNORED, encode
from subterra_testkit.runs.tool_agent import ORDERS, refund_conversation

TOKENIZER: Qwen2Tokenizer = scratch_tokenizer([], ORDERS.system_prompt, function_lines(ORDERS))


def test_vllms_parser_reads_the_call_that_is_trained() -> None:
    messages = refund_conversation()
    calls = {call["function"]["name"]: message for message in messages for call in message.get("tool_calls", ())}
    learnt = TOKENIZER.decode([label for label in encode(TOKENIZER, messages)["labels"] if label != IGNORED])
    parser, read = Hermes2ProToolParser(TOKENIZER), []
    for said in filter(lambda text: "<tool_call>" in text, learnt.split("<|im_end|>")):
        found = parser.extract_tool_calls(said, None)  # type: ignore[arg-type]
        [call] = found.tool_calls
        read.append(call.function.name)
        expected = calls[call.function.name]
        assert json.loads(call.function.arguments) == json.loads(expected["tool_calls"][0]["function"]["arguments"])
        assert (found.content or "").strip() == expected["content"]
        sent_back = {"role": "assistant", "content": found.content, "tool_calls": expected["tool_calls"]}
        text = TOKENIZER.apply_chat_template([sent_back], tokenize=False)
        assert text.endswith(f"<|im_start|>assistant\n{said}<|im_end|>\n")
    assert read == ["find_order", "refund_order"]
