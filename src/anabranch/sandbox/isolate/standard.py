"""What every zygote imports, and what it does once so that nothing is left to be loaded.

A child cannot open the files of a module, so what is imported lazily has to be imported
here: whole packages where a library does that often, and what is found by running a little
of everything.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys
import zoneinfo
from typing import Final

MODULES: Final = tuple(
    """
    abc array ast asyncio base64 binascii bisect bz2 calendar cmath codecs collections
    collections.abc colorsys concurrent.futures concurrent.futures.thread contextlib
    contextvars copy copyreg csv dataclasses datetime decimal difflib email.message
    email.utils enum fnmatch fractions functools gc getpass glob graphlib gzip hashlib heapq
    hmac html html.entities html.parser http inspect io ipaddress itertools json
    json.decoder json.encoder keyword linecache locale logging lzma math mimetypes numbers
    operator os os.path pathlib pickle platform pprint queue random re reprlib secrets
    select selectors shlex shutil signal socket sqlite3 stat statistics string stringprep
    struct tempfile textwrap threading time timeit token tokenize tomllib traceback types
    typing unicodedata urllib.parse urllib.request uuid warnings weakref
    xml.etree.ElementTree zipfile zlib zoneinfo _strptime
    encodings.ascii encodings.base64_codec encodings.cp1250 encodings.cp1251
    encodings.cp1252 encodings.cp437 encodings.cp850 encodings.hex_codec encodings.idna
    encodings.iso8859_1 encodings.iso8859_15 encodings.iso8859_2 encodings.latin_1
    encodings.punycode encodings.raw_unicode_escape encodings.rot_13
    encodings.unicode_escape encodings.utf_16 encodings.utf_16_be encodings.utf_16_le
    encodings.utf_32 encodings.utf_32_be encodings.utf_32_le encodings.utf_7
    encodings.utf_8 encodings.utf_8_sig encodings.zlib_codec
    """.split()
)

_EVERYDAY: Final = """
import asyncio, datetime, decimal, json, random, re, statistics, textwrap, traceback
datetime.datetime.strptime("2020-02-03", "%Y-%m-%d").strftime("%A %j")
json.loads(json.dumps({"a": [1, 2.5, None, "x"]}, indent=1))
re.sub(r"(\\w+)", lambda found: found[1].upper(), "some words")
statistics.fmean([1, 2, 3]), decimal.Decimal("1.1") ** 2, random.gauss(0, 1)
print(f"{textwrap.fill('a b c', 3)!r:>20}")
try:
    {}["x"]
except KeyError:
    traceback.format_exc()
async def nothing():
    await asyncio.sleep(0)
asyncio.run(nothing())
"""

_NUMPY: Final = """
import numpy as np
a = np.arange(12.0).reshape(3, 4)
(a @ a.T).sum(axis=0), np.linalg.inv(np.eye(2)), np.fft.fft(a[0]), np.unique(a)
np.random.default_rng(0).normal(size=3), np.array(["x", "y"]), str(a), np.median(a)
np.array(["2020-01-01"], dtype="datetime64[D]").astype(str)
"""

_PANDAS: Final = """
import pandas as pd
d = pd.DataFrame({"k": ["a", "b", "a"], "x": [1, 2, 3], "y": [1.5, None, 2.5]})
d["t"] = pd.date_range("2020-01-01", periods=3, tz="UTC")
d.groupby("k")["x"].agg(["sum", "mean"]), d.merge(d, on="k"), d.describe(), str(d)
d.pivot_table(index="k", values="x", aggfunc="sum"), d.sort_values("x"), d.to_csv()
d.set_index("t")["x"].resample("D").sum(), d["k"].str.upper(), d["x"].rolling(2).mean()
d.query("x > 1"), d.eval("z = x + y"), d["k"].astype("category"), d.dtypes, d.to_dict()
d["y"].fillna(0).quantile([0.1, 0.9]), pd.concat([d, d]), d["k"].value_counts()
pd.to_datetime(["2020-01-01"]), pd.cut(d["x"], 2), d.corr(numeric_only=True), d.to_json()
d.melt(id_vars="k", value_vars=["x"]), pd.get_dummies(d["k"]), d.apply(len), d.T, repr(d)
"""

WHOLE: Final = {
    "numpy": ("numpy.lib", "numpy.linalg", "numpy.ma", "numpy.polynomial", "numpy.random"),
    "pandas": ("pandas.core", "pandas.io", "pandas.tseries"),
}
EXERCISES: Final = {"": _EVERYDAY, "numpy": _NUMPY, "pandas": _PANDAS}


# A zone is found again as long as somebody holds it: all of them take 6 MB, and 50 ms.
_zones: list[zoneinfo.ZoneInfo] = []


def load(names: tuple[str, ...]) -> None:
    """Import what every child may use, and ``names``.

    Raises:
        Exception: Whatever importing one of ``names`` raises. What is missing from the
            standard library of this interpreter is left out.
    """
    for name in MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    _zones.extend(map(zoneinfo.ZoneInfo, sorted(zoneinfo.available_timezones())))
    for name in names:
        importlib.import_module(name)
    for library, packages in WHOLE.items():
        if library in sys.modules:
            for package in packages:
                _load_whole(package)


def _load_whole(package: str) -> None:
    """Import the modules of a package, but for tests and what needs another library."""
    found = pkgutil.walk_packages(
        importlib.import_module(package).__path__, f"{package}.", onerror=_left_out
    )
    for module in found:
        if ".tests" not in module.name:
            with contextlib.suppress(Exception):
                importlib.import_module(module.name)


def _left_out(_: str) -> None:
    """A package that cannot be imported has no modules either."""


def exercises() -> list[str]:
    """Sources to run once: of what is loaded, a little of everything."""
    return [source for name, source in EXERCISES.items() if not name or name in sys.modules]
