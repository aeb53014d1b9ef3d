"""Training: the loop, its checkpoints, and one module per thing that is learnt."""
