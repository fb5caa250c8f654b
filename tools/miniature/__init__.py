"""Scripts that build the miniature's data from public packages. The harness does not use them."""
