"""The chat template: one Jinja text that renders training conversations and served requests alike.

    <|im_start|>system\n{system prompt}<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n

The markers are those of the base model's family (`core/subterra_core/training_fit/base_models/chat_formats.py`); what its own
template has besides, such as thinking or a date, is left out. The procedure's system prompt is baked in. What a client sends as
system message is transient context: it is appended to the baked prompt and cannot replace it. There are no ``{% generation %}``
tags, because not every reader of a chat template knows them; training finds the agent's tokens by their position in the rendered
text (`tokenized_dataset.py`).
"""

import string

from subterra_core.training_fit.base_models.chat_formats import CHATML, ChatFormat
from subterra_jobs.train.model.tool_template import TOOL_TURNS, tools_block

IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
PAD = "<|endoftext|>"

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
# Beginnings of markers are broken up in every text (`__PLAIN__`), so that no message can inject a turn of another speaker.
_TURNS = """\
{{- '__OPENING____SYSTEM__' + system.text__PLAIN__ + '__SYSTEM_END__' -}}
{%- for message in messages -%}
  {%- set said = (message['content'] or '')__PLAIN__ -%}
  {%- if message['role'] == 'user' -%}
    {{- '__USER__' + said + '__USER_END__' -}}
  {%- elif message['role'] == 'assistant' -%}
    {{- '__AGENT__' + said + '__AGENT_END__' -}}
  {%- elif message['role'] not in ['system', 'developer'] -%}
    {{- raise_exception('A message must come from system, user or assistant.') -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '__AGENT__' -}}
{%- endif -%}
"""


def chat_template(system_prompt: str, tools: str = "", chat: ChatFormat = CHATML, opening: str = "") -> str:
    """The Jinja template for training and serving an agent with this system prompt, and with these tools, a JSON line each.

    `opening` is the token that a model expects before all others, if it does.
    """
    prompt = jinja_literal(system_prompt.strip())
    template = _with_markers(_SYSTEM + (TOOL_TURNS if tools else _TURNS), chat, opening)
    return template.replace("__TOOLS__", jinja_literal(tools_block(tools))).replace("__SYSTEM_PROMPT__", prompt)


def _with_markers(template: str, chat: ChatFormat, opening: str) -> str:
    """A template with the markers of a format, which are constants and hold nothing that Jinja reads as syntax but line breaks."""
    plain = "".join(f" | replace('{marker}', '{marker[0]} {marker[1:]}')" for marker in chat.broken)
    roles = {"SYSTEM": chat.system, "USER": chat.user, "AGENT": chat.agent}
    texts = {"OPENING": jinja_literal(opening), "PLAIN": plain}
    texts |= {role: turn.before.replace("\n", "\\n") for role, turn in roles.items()}
    texts |= {f"{role}_END": turn.after.replace("\n", "\\n") for role, turn in roles.items()}
    for name, text in texts.items():
        template = template.replace(f"__{name}__", text)
    return template


def jinja_literal(text: str) -> str:
    """``text`` as the inside of a Jinja string literal, with nothing left that Jinja could read as syntax."""
    return "".join(c if c in _LITERAL else f"\\U{ord(c):08x}" for c in text)
