"""Modules as contained code sees them: views of some of their names, and nothing else.

:mod:`~anabranch.sandbox.views.modules` lists the names that are harmless as they are. In
place of others there are functions of our own, in a module for each family of them; each
gives a dict of names. Modules of Python that nothing else here needs are imported when
their view is first asked for.
"""
