"""Answers from vLLM in place of the built-in engine: prompts, adapters, the process it runs in, and the comparison."""
