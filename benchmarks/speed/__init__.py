"""How fast it is: ratios from interleaved runs, with the targets that they are held to."""
