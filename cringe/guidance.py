"""Steering a plain model while it decodes: re-ranking, FUDGE, PACER, with a cached guide."""
