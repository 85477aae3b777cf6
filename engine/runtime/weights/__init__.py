"""What the parameters of a live model hold: one room for precision, pruning, sparsity and quantization, which all
change the same weights."""
