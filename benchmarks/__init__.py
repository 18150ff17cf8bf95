"""How fast, in how much memory, beside whom. `python -m benchmarks.run` from the root of the
repository writes a table and the figures behind it into `benchmarks/results/`.
"""
