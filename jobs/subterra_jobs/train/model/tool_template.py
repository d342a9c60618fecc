"""The chat template of an agent with tools: that of `chat_template.py`, with calls and results as Hermes and Qwen models have them.

    <|im_start|>system\n{system prompt}\n\n<tools>\n{a line per tool}\n</tools>…<|im_end|>\n
    <|im_start|>assistant\nOne moment.\n<tool_call>\n{"name": …, "arguments": …}\n</tool_call><|im_end|>\n
    <|im_start|>user\n<tool_response>\n{…}\n</tool_response><|im_end|>\n

vLLM's parser `hermes` reads the calls. The list of tools is baked in, as the system prompt is: a request has the bytes of training
whatever the order and the spelling of the client's own `tools`, which only switches the parser on.
"""

_TOOLS = """

Functions that you may call:
<tools>
{lines}
</tools>
A call is <tool_call>{{"name": function, "arguments": object}}</tool_call>; its result comes in <tool_response>."""

# A text can neither open a turn nor pass for a call or a result: markers and the tags of tools are broken up in it.
TOOL_TURNS = """\
{%- macro plain(text) -%}
  {{- text__PLAIN__ | replace('<tool_', '< tool_') | replace('</tool_', '< /tool_') -}}
{%- endmacro -%}
{{- '__OPENING____SYSTEM__' + baked__PLAIN__ + '__TOOLS__'__PLAIN__ -}}
{{- plain(system.text[baked | length:]) + '__SYSTEM_END__' -}}
{%- for message in messages -%}
  {%- set said = message['content'] or '' -%}
  {%- if message['role'] == 'user' -%}
    {{- '__USER__' + plain(said) + '__USER_END__' -}}
  {%- elif message['role'] == 'tool' -%}
    {{- '__USER__<tool_response>\\n' + plain(said) + '\\n</tool_response>__USER_END__' -}}
  {%- elif message['role'] == 'assistant' and message['tool_calls'] -%}
    {{- '__AGENT__' + plain(said | trim) -}}
    {%- for call in message['tool_calls'] -%}
      {%- set given = call['function']['arguments'] -%}
      {%- if not (loop.first and not said | trim) -%}{{- '\\n' -}}{%- endif -%}
      {{- '<tool_call>\\n{"name": "' + plain(call['function']['name']) + '", "arguments": ' -}}
      {{- plain(given if given is string else given | tojson) + '}\\n</tool_call>' -}}
    {%- endfor -%}
    {{- '__AGENT_END__' -}}
  {%- elif message['role'] == 'assistant' -%}
    {{- '__AGENT__' + plain(said) + '__AGENT_END__' -}}
  {%- elif message['role'] not in ['system', 'developer'] -%}
    {{- raise_exception('A message must come from system, user, assistant or tool.') -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '__AGENT__' -}}
{%- endif -%}
"""


def tools_block(lines: str) -> str:
    """What follows the system prompt: the tools, and how they are called."""
    return _TOOLS.format(lines=lines)
