"""Scripts that build the embedded world from registry packages; nothing here runs when the harness is used."""
