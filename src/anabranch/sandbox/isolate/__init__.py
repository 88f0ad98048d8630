"""One process for each run: a confined parent of them, what runs in them, who keeps them.

* :mod:`~anabranch.sandbox.isolate.zygote` is a small program that imports what contained
  code may use, confines itself, and forks a child for each run.
* :mod:`~anabranch.sandbox.isolate.child` is what such a child does: it takes requests
  from a socket and runs them (:mod:`~anabranch.sandbox.isolate.runner`).
* :mod:`~anabranch.sandbox.isolate.pool` is this side: it keeps zygotes and children,
  gives each run one, and kills it afterwards.

A child is hostile from the moment its source has arrived. Whatever it sends is measured
before it is read, and read without building anything but plain data.
"""
