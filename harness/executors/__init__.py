"""Where the cells of a run are computed: in this process, in several on this machine, or on a Ray cluster."""
