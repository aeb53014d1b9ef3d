"""What the pixels of a radiograph say of themselves: collimation, image area, polarity, one hip or two."""
