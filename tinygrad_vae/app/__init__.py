"""The command ``tinygrad-vae``: configuration, data, run folders, training, pictures."""
