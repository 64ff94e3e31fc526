"""Networks of the classifiers: architectures, weight files, and the preprocessing around them."""

# Part of a result's identity. Raise it when the code in this package computes other numbers from the same weights: the
# golden-vote tests fail when counts change without it.
NETS_VERSION = 1
