"""Networks and losses: tensors in, tensors out. Nothing here reads a file."""
