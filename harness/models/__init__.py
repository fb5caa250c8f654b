"""Vision-language models: families of them, loading, chat templates and generation."""

GROUP = "harness.models"
"""Entry points of this group name a module or a class that defines a family of models."""
