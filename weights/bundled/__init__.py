"""The network that comes with the product, so that it enlarges well without a download. Belongs
here: one small 16-bit checkpoint, its card and its records, all written by the recipe in
`weights/train/`. Does not: code, or weights made by others.
"""
