"""One table model, five ways to write it; each shows the same numbers."""
