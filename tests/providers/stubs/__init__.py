"""Stub providers on loopback that follow the documented contracts, with faults; they count paid
calls and write invoices. Written from the providers' documentation, not from the adapters.
"""
