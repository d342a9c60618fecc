"""The chat template: one Jinja text that renders training conversations and served requests alike.

    <|im_start|>system\n{system prompt}<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n

The procedure's system prompt is baked in. What a client sends as system message is transient context: it is appended to
the baked prompt and cannot replace it. There are no ``{% generation %}`` tags, because not every reader of a chat template
knows them; training finds the agent's tokens by their position in the rendered text (`tokenized_dataset.py`).
"""

import string

from subterra_jobs.train.model.tool_template import tool_template, tools_block

IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
PAD = "<|endoftext|>"
AGENT_HEADER = f"{IM_START}assistant\n"

# All other characters become \UXXXXXXXX, so that no prompt can end the literal or the tag around it.
_LITERAL = frozenset(string.ascii_letters + string.digits + " .,;:!?()-_=+*/@&$")

# The system message is `system.text`: the baked prompt, then what clients sent.
_SYSTEM = """\
{%- set system = namespace(text='__SYSTEM_PROMPT__') -%}
{%- set baked = system.text -%}
{%- for message in messages -%}
  {%- if message['role'] in ['system', 'developer'] -%}
    {%- set context = message['content'] or '' -%}
    {%- if context == baked or context.startswith(baked + '\\n') -%}
      {%- set context = context[baked | length:] -%}
    {%- endif -%}
    {%- if context | trim -%}
      {%- set system.text = system.text + '\\n' + context | trim -%}
    {%- endif -%}
  {%- endif -%}
{%- endfor -%}
"""
# `<|` is broken up in every text, so that no message can inject a turn of another speaker.
_TURNS = """\
{{- '<|im_start|>system\\n' + system.text | replace('<|', '< |') + '<|im_end|>\\n' -}}
{%- for message in messages -%}
  {%- if message['role'] in ['user', 'assistant'] -%}
    {{- '<|im_start|>' + message['role'] + '\\n' + (message['content'] or '') | replace('<|', '< |') + '<|im_end|>\\n' -}}
  {%- elif message['role'] not in ['system', 'developer'] -%}
    {{- raise_exception('A message must come from system, user or assistant.') -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


def chat_template(system_prompt: str, tools: str = "") -> str:
    """The Jinja template for training and serving an agent with this system prompt, and with these tools, a JSON line each."""
    if tools:
        return tool_template(_SYSTEM, jinja_literal(system_prompt.strip()), jinja_literal(tools_block(tools)))
    return (_SYSTEM + _TURNS).replace("__SYSTEM_PROMPT__", jinja_literal(system_prompt.strip()))


def jinja_literal(text: str) -> str:
    """``text`` as the inside of a Jinja string literal, with nothing left that Jinja could read as syntax."""
    return "".join(c if c in _LITERAL else f"\\U{ord(c):08x}" for c in text)
