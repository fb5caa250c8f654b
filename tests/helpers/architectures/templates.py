"""Chat templates with the structure of the published ones, and what is particular to each.

None is copied; tools, audio and videos are left out.
"""

from __future__ import annotations

QWEN3_VL = """\
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set pictures = namespace(count=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '<|im_start|>user\\n' }}
        {%- if message.content is string %}{{- message.content }}{%- else %}
            {%- for part in message.content %}
                {%- if part.type == 'image' or 'image' in part %}
                    {%- set pictures.count = pictures.count + 1 %}
                    {%- if add_vision_id %}{{- 'Picture ' + pictures.count|string + ': ' }}{%- endif %}
                    {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
                {%- elif 'text' in part %}{{- part.text }}{%- endif %}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if message.content is string %}{{- message.content }}{%- else %}
            {%- for part in message.content %}{%- if 'text' in part %}{{- part.text }}{%- endif %}{%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
"""As in ``Qwen/Qwen3-VL-4B-Instruct``: no default system prompt."""

QWEN3_5 = """\
{%- macro render(content) %}
    {%- if content is string %}{{- content }}{%- else %}
        {%- for part in content %}
            {%- if part.type == 'image' or 'image' in part %}{{- '<|vision_start|><|image_pad|><|vision_end|>' }}
            {%- elif 'text' in part %}{{- part.text }}{%- endif %}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
{%- set last = namespace(query=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{%- set last.query = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = render(message.content)|trim %}
    {%- if message.role == 'assistant' %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].split('<think>')[-1]|trim %}
            {%- set content = content.split('</think>')[-1]|trim %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > last.query %}{{- '<think>\\n' + reasoning + '\\n</think>\\n\\n' }}{%- endif %}
        {{- content + '<|im_end|>\\n' }}
    {%- else %}{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is true %}{{- '<think>\\n' }}
    {%- else %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
"""
"""As in the small ``Qwen/Qwen3.5`` models: the last answer has a thinking block, empty unless asked for, and earlier
answers have none, so that a dialogue does not begin with the tokens of its own first turns. Texts are trimmed."""

INTERNVL = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""As in ``OpenGVLab/InternVL3_5-4B-HF``: a line break after each picture."""

ONEVISION = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% if message['role'] != 'assistant' %}{{ '\\n' + part['text'] }}{% else %}"
    "{% generation %}{{ '\\n' + part['text'] }}{% endgeneration %}{% endif %}{% endfor %}{{ '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""As in ``llava-hf/llava-onevision-qwen2-0.5b-ov-hf``: pictures before text; an answer in the history follows a space
and a line break, the one to generate a line break alone."""

VICUNA = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'][0]['text'] }}{% else %}"
    "{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% if message['role'] != 'assistant' %}{{ part['text'] + ' ' }}{% else %}"
    "{% generation %}{{ part['text'] + ' ' }}{% endgeneration %}{% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""As in ``llava-hf/llava-v1.6-vicuna-7b-hf``: no token ends an answer, and the tokenizer adds ``<s>``."""

GEMMA3 = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set prefix = (messages[0]['content'] if messages[0]['content'] is string else messages[0]['content'][0]['text'])
        + '\\n\\n' -%}
    {%- set dialogue = messages[1:] -%}
{%- else -%}
    {%- set prefix = '' -%}
    {%- set dialogue = messages -%}
{%- endif -%}
{%- for message in dialogue -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('Roles must alternate: user, assistant, user, ...') }}
    {%- endif -%}
    {{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}
    {{- prefix if loop.first else '' }}
    {%- if message['content'] is string -%}{{ message['content'] | trim }}
    {%- else -%}
        {%- for part in message['content'] -%}
            {%- if part['type'] == 'image' -%}{{ '<start_of_image>' }}
            {%- elif part['type'] == 'text' -%}{{ part['text'] | trim }}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""
"""As in ``google/gemma-3-4b-it``: it writes ``<bos>`` itself, trims texts and insists on alternating roles."""

IDEFICS = (
    "{start}{{% for message in messages %}}{{{{ message['role'] | capitalize }}}}"
    "{{% if message['content'][0]['type'] == 'image' %}}{{{{ ':' }}}}{{% else %}}{{{{ ': ' }}}}{{% endif %}}"
    "{{% for part in message['content'] %}}{{% if part['type'] == 'text' %}}{{{{ part['text'] }}}}"
    "{{% elif part['type'] == 'image' %}}{{{{ '<image>' }}}}{{% endif %}}{{% endfor %}}<end_of_utterance>\n"
    "{{% endfor %}}{{% if add_generation_prompt %}}{{{{ 'Assistant:' }}}}{{% endif %}}"
)
"""As in ``HuggingFaceM4/Idefics3-8B-Llama3`` and ``HuggingFaceTB/SmolVLM2-2.2B-Instruct``, which differ in the token at
the start: an answer in the history follows a space, the one to generate does not."""

MISTRAL3 = """\
{%- set today = strftime_now('%Y-%m-%d') %}
{%- set standard = 'You are a helpful assistant. The current date is ' + today + '.' %}
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set content = messages[0]['content'] %}
    {%- set system = content if content is string else content[0]['text'] %}
    {%- set dialogue = messages[1:] %}
{%- else %}
    {%- set system = standard %}
    {%- set dialogue = messages %}
{%- endif %}
{{- '[SYSTEM_PROMPT]' + system + '[/SYSTEM_PROMPT]' }}
{%- for message in dialogue %}
    {%- if message['role'] == 'user' %}
        {{- '[INST]' }}
        {%- if message['content'] is string %}{{- message['content'] }}{%- else %}
            {%- for part in message['content'] %}
                {%- if part['type'] == 'text' %}{{- part['text'] }}
                {%- elif part['type'] == 'image' %}{{- '[IMG]' }}{%- endif %}
            {%- endfor %}
        {%- endif %}
        {{- '[/INST]' }}
    {%- elif message['role'] == 'assistant' %}
        {{- (message['content'] if message['content'] is string else message['content'][0]['text']) + eos_token }}
    {%- else %}{{- raise_exception('Only user, assistant and system roles are supported.') }}{%- endif %}
{%- endfor %}
"""
"""As in ``mistralai/Mistral-Small-3.1-24B-Instruct-2503``: today's date is in the prompt, and nothing marks where an
answer begins but the end of the question."""
