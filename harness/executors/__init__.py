"""The places where cells are computed: this process, several on this machine, or a Ray cluster."""
