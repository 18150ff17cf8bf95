"""Models and networks. Belongs here: the catalogue (data, importable without torch), the Contract
and how it is measured, loading and detection of checkpoints. Does not: tiles, files, HTTP.
"""
