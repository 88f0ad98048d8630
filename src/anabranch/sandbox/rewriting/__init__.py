"""Puts calls of guards into a tree that the policy has allowed.

A guard's name begins with ``$``: the compiler takes it, and no source can say it. Guards
stand where one operation could read what is not for the code, or take long or allocate
much before the interpreter looks again whether to stop.

:mod:`~anabranch.sandbox.rewriting.trees` rewrites a whole tree, by rules for
:mod:`what holds others <anabranch.sandbox.rewriting.weighing>`, for
:mod:`reading, calling and texts <anabranch.sandbox.rewriting.reading>`, for
:mod:`operators <anabranch.sandbox.rewriting.operators>` and for
:mod:`statements <anabranch.sandbox.rewriting.statements>`.
"""
