"""One cell of a comparison: what it is, how it is trained, what it answers."""
