"""The mathematics: networks, losses, the training step, sampling. Pure functions of arrays."""
