"""Training and decoding of dialogue models from positive and negative examples."""
