"""Measurements beside other libraries: ``benchmarks/run NAME`` runs ``benchmarks/NAME.py``."""
