"""A step on a GPU as a CUDA graph. Never tried on hardware: tested on an imitation of CuPy only."""
