"""Small device kernels as plain functions on tensors: today the antialiased resample. Each is a
PyTorch reference; faster versions stand beside it under the same signature. Imports torch only.
"""
