"""Which names and attributes contained code may use: allow-lists, type by type.

What stands nowhere here is refused. A type is known by its module and name, so that numpy
and pandas need not be imported to speak of them.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "EXCEPTIONS",
    "OF_CLASSES",
    "OF_VALUES",
    "PLAIN_ATTRIBUTES",
    "is_private",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def is_private(name: str) -> bool:
    """Whether a name begins with an underscore, and is not the throw-away name itself."""
    return name.startswith("_") and name != "_"


# Only subclasses of Exception: what stops the code is none, so no handler can catch it.
EXCEPTIONS: Final = _words("""
    ArithmeticError AssertionError AttributeError EOFError Exception FloatingPointError
    IndexError KeyError LookupError NameError NotImplementedError OverflowError
    RecursionError RuntimeError StopIteration TypeError UnboundLocalError
    UnicodeDecodeError UnicodeEncodeError UnicodeError ValueError ZeroDivisionError
""")

_STR = _words("""
    capitalize casefold center count encode endswith expandtabs find format format_map
    index isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric
    isprintable isspace istitle isupper join ljust lower lstrip maketrans partition
    removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split
    splitlines startswith strip swapcase title translate upper zfill
""")
_BYTES = (_STR - _words("""
    encode format format_map casefold isidentifier isdecimal isnumeric isprintable
""")) | _words("decode hex fromhex")  # fmt: skip
_INT = _words("""
    as_integer_ratio bit_count bit_length conjugate denominator from_bytes imag
    numerator real to_bytes is_integer
""")
_FLOAT = _words("as_integer_ratio conjugate fromhex hex imag is_integer real")
_LIST = _words("append clear copy count extend index insert pop remove reverse sort")
_DICT = _words("clear copy fromkeys get items keys pop popitem setdefault update values")
_FROZENSET = _words("""
    copy difference intersection isdisjoint issubset issuperset symmetric_difference
    union
""")
_SET = _FROZENSET | _words("""
    add clear difference_update discard intersection_update pop remove
    symmetric_difference_update update
""")
_DATE = _words("""
    ctime day fromisocalendar fromisoformat fromordinal fromtimestamp isocalendar
    isoformat isoweekday max min month replace resolution strftime timetuple today
    toordinal weekday year
""")
_TIME = _words("""
    dst fold fromisoformat hour isoformat max microsecond min minute replace resolution
    second strftime tzinfo tzname utcoffset
""")
_DATETIME = (
    _DATE
    | _TIME
    | _words("""
        astimezone combine date now strptime time timestamp timetz utcfromtimestamp
        utcnow utctimetuple
    """)
)
_DECIMAL = _words("""
    adjusted as_integer_ratio as_tuple canonical compare compare_signal conjugate
    copy_abs copy_negate copy_sign exp from_float imag is_canonical is_finite
    is_infinite is_nan is_normal is_qnan is_signed is_snan is_subnormal is_zero ln log10
    logb max min next_minus next_plus normalize number_class quantize real
    remainder_near same_quantum scaleb sqrt to_eng_string to_integral_value
""")
_RE_MATCH = _words("""
    end endpos expand group groupdict groups lastgroup lastindex pos regs re span
    start string
""")
_COUNTER = _DICT | _words("elements most_common subtract total")
_DEQUE = _words("""
    append appendleft clear copy count extend extendleft index insert maxlen pop
    popleft remove reverse rotate
""")

#: What may be read of a value, by the module and name of its exact type.
OF_VALUES: Final[dict[tuple[str, str], frozenset[str]]] = {
    ("builtins", "str"): _STR,
    ("builtins", "bytes"): _BYTES,
    ("builtins", "bytearray"): _BYTES | _LIST,
    ("builtins", "int"): _INT,
    ("builtins", "bool"): _INT,
    ("builtins", "float"): _FLOAT,
    ("builtins", "complex"): _words("conjugate imag real"),
    ("builtins", "list"): _LIST,
    ("builtins", "tuple"): _words("count index"),
    ("builtins", "dict"): _DICT,
    ("builtins", "set"): _SET,
    ("builtins", "frozenset"): _FROZENSET,
    ("builtins", "range"): _words("count index start step stop"),
    ("builtins", "slice"): _words("indices start step stop"),
    ("builtins", "generator"): _words("close send"),
    ("builtins", "dict_keys"): _words("isdisjoint"),
    ("builtins", "dict_items"): _words("isdisjoint"),
    ("datetime", "date"): _DATE,
    ("datetime", "time"): _TIME,
    ("datetime", "datetime"): _DATETIME,
    ("datetime", "timedelta"): _words(
        "days max microseconds min resolution seconds total_seconds"
    ),
    ("datetime", "timezone"): _words("dst fromutc max min tzname utc utcoffset"),
    ("datetime", "IsoCalendarDate"): _words("count index week weekday year"),
    ("time", "struct_time"): _words("""
        count index tm_gmtoff tm_hour tm_isdst tm_mday tm_min tm_mon tm_sec tm_wday
        tm_yday tm_year tm_zone
    """),
    ("decimal", "Decimal"): _DECIMAL,
    ("decimal", "DecimalTuple"): _words("count digits exponent index sign"),
    ("fractions", "Fraction"): _words("""
        as_integer_ratio denominator from_decimal from_float is_integer
        limit_denominator numerator
    """),
    ("uuid", "UUID"): _words("bytes hex int variant version"),
    ("collections", "Counter"): _COUNTER,
    ("collections", "OrderedDict"): _DICT | _words("move_to_end"),
    ("collections", "defaultdict"): _DICT,
    ("collections", "deque"): _DEQUE,
    ("re", "Match"): _RE_MATCH,
    ("re", "Pattern"): _words("""
        findall finditer flags fullmatch groupindex groups match pattern search split
        sub subn
    """),
    ("random", "Random"): _words("""
        betavariate choice choices expovariate gauss getrandbits lognormvariate
        normalvariate paretovariate randint random randrange sample seed shuffle
        triangular uniform vonmisesvariate weibullvariate
    """),
    ("statistics", "NormalDist"): _words("""
        cdf from_samples inv_cdf mean median mode overlap pdf quantiles samples stdev
        variance zscore
    """),
    ("string", "Template"): frozenset(),
}

#: What may be read of a class that is offered: constructors by another name, mostly.
OF_CLASSES: Final[dict[tuple[str, str], frozenset[str]]] = {
    ("builtins", "dict"): _DICT,
    ("builtins", "str"): _STR - _words("format format_map"),
    ("builtins", "bytes"): _BYTES,
    ("builtins", "int"): _INT,
    ("builtins", "float"): _FLOAT,
    ("builtins", "list"): _LIST,
    ("builtins", "tuple"): _words("count index"),
    ("builtins", "set"): _SET,
    ("builtins", "frozenset"): _FROZENSET,
    ("datetime", "date"): _DATE,
    ("datetime", "time"): _TIME,
    ("datetime", "datetime"): _DATETIME,
    ("datetime", "timedelta"): _words("max min resolution total_seconds"),
    ("datetime", "timezone"): _words("max min utc"),
    ("decimal", "Decimal"): _DECIMAL,
    ("fractions", "Fraction"): _words("from_decimal from_float"),
    ("uuid", "UUID"): frozenset(),
    ("statistics", "NormalDist"): _words("from_samples"),
    ("itertools", "chain"): _words("from_iterable"),
}

#: Attributes that are harmless on every value that code can get hold of, so that reading
#: one needs no look at the value: none of them allocates by its arguments, reads a format
#: or an expression, or runs through an iterable.
PLAIN_ATTRIBUTES: Final = _words("""
    add append capitalize casefold copy discard endswith find get isalnum isalpha
    isdigit islower isspace isupper items keys lower lstrip pop popitem
    rstrip setdefault split startswith strip title upper
""")
