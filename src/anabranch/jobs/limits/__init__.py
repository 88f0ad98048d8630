"""How much may be in flight, how often, and when to hold back.

Hearts, which know no clock: :mod:`~anabranch.jobs.limits.rate`, ``adaptive``, ``breaker``,
``latency`` and ``queue``. Drivers: ``limiter`` and ``gate``.
"""
