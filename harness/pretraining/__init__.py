"""How the miniatures are made: their blueprints, the old world as lessons, and the stages of their pre-training."""
