"""Version numbers of the parts of the harness that decide counts; they are part of every cell's identity.

Raise a number in the change that makes the part give other counts from the same cell. tests/engine/test_golden.py
fails when counts change and no number does. Moving or rewording code changes no number.
"""

NOISE_VERSION = 1  # the generator of smoothing and purifier noise
NOISE_KERNEL, NOISE_KERNEL_VERSION = "noise kernel", 1  # the same as one kernel, in cells of GPUs with Triton
DISCRETE_NOISE_VERSION = 1  # the sampler of rounded noise, in cells that use it
ENGINE_VERSION = 1  # from images and noise to votes: conversion, padding to fixed rows, precision, voting

# Rows that networks see at once unless a preset says otherwise: as fast as more on the embedded networks, less padding.
DEFAULT_ROWS = {"cpu": 100, "cuda": 500}
