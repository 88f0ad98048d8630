"""Measurements beside other libraries; ``benchmarks/run NAME`` runs one module."""
