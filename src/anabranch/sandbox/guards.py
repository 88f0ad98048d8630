"""What runs in place of operations that need a look at their values.

A guard either does what the operation does, or stops the code for good: what it raises is
no Exception, so the code cannot catch it, and the caller gets the error it carries. Each
operation that is let through ends soon by itself, or returns to the interpreter now and
then, where the :mod:`watch <anabranch.sandbox.watch>` can stop it.
"""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
from typing import Any, Final

from anabranch.sandbox.arithmetic import (
    added,
    added_in_place,
    multiplied,
    multiplied_in_place,
    power,
    remainder,
    shifted,
    small,
)
from anabranch.sandbox.attributes import attribute
from anabranch.sandbox.formats import formatted
from anabranch.sandbox.light import (
    SCALARS,
    all_kept,
    each_kept,
    hashed,
    inside,
    kept,
    light,
    stored,
)
from anabranch.sandbox.running import (
    bound,
    consumed,
    generating,
    going,
    join,
    live,
    matched,
    more,
    named_call,
    spreads,
    text,
    ticking,
    within,
)

# Values in and out of here can be of any type: that is what guards are for.
Value = Any

#: What the guards' names, as rewriting writes them, mean.
GUARDS: Final[dict[str, Value]] = {
    "$get": attribute,
    "$mul": multiplied,
    "$imul": multiplied_in_place,
    "$pow": power,
    "$ipow": power,
    "$shift": shifted,
    "$ishift": shifted,
    "$mod": remainder,
    "$imod": remainder,
    "$add": added,
    "$iadd": added_in_place,
    "$join": join,
    "$bound": bound,
    "$named": named_call,
    "$matched": matched,
    "$going": going,
    "$small": small,
    "$format": formatted,
    "$spread": consumed,
    "$spreads": spreads,
    "$ticking": ticking,
    "$live": live,
    "$generating": generating,
    "$more": more,
    "$within": within,
    "$light": light,
    "$hashed": hashed,
    "$inside": inside,
    "$all_kept": all_kept,
    "$each_kept": each_kept,
    "$text": text,
    "$kept": kept,
    "$type": type,
    "$scalars": SCALARS,
    "$stored": stored,
    **{
        f"${cls.__name__}": cls
        for cls in (
            bool,
            bytearray,
            bytes,
            dict,
            float,
            frozenset,
            int,
            list,
            set,
            str,
            tuple,
        )
    },
}
