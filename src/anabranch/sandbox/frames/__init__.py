"""numpy and pandas as contained code sees them: listed names, and guards on some of them.

* :mod:`~anabranch.sandbox.frames.names` lists what may be used, by kind of object.
* :mod:`~anabranch.sandbox.frames.attributes` gives the attributes of objects,
  :mod:`~anabranch.sandbox.frames.numpy_view` and
  :mod:`~anabranch.sandbox.frames.pandas_view` the names of the modules.
* :mod:`~anabranch.sandbox.frames.arguments` looks at what every call is given; some calls
  have guards of their own: :mod:`~anabranch.sandbox.frames.methods`,
  :mod:`~anabranch.sandbox.frames.expressions`, :mod:`~anabranch.sandbox.frames.matching`,
  :mod:`~anabranch.sandbox.frames.sizes`.
* :mod:`~anabranch.sandbox.frames.cells` tells what an array or table holds.
"""
