"""Programs made up by a grammar, to try the policy with: the same seed gives the same one.

A *tame* program is put together by kinds of value, from what the policy offers, and is
meant to run: behind the policy and in plain Python it must give the same. A *wild* one has
parts in it that reach for what is not offered or for too much of it, names in other
spellings, and pieces of the attacks of the suite.
"""

from __future__ import annotations

import ast
import functools
import keyword
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from anabranch.sandbox import evaluation
from anabranch.sandbox.frames.names import KINDS
from anabranch.sandbox.names import OF_CLASSES, OF_VALUES
from anabranch.sandbox.objects import Given
from anabranch.sandbox.views.modules import view_of
from tests.sandbox.suite.loader import build, load

__all__ = ["IMPORTS", "Program", "inputs", "program"]

IMPORTS: Final = (
    "math cmath datetime json statistics itertools functools operator string decimal"
    " fractions collections re textwrap bisect heapq calendar html unicodedata base64"
    " hashlib uuid zlib copy typing random time numpy pandas"
).split()
# What gives another value each time, waits, or tells where something lies in memory.
_FICKLE: Final = frozenset(
    "random time sleep uuid4 now today utcnow localtime gmtime monotonic perf_counter"
    " ctime seed shuffle sample choice choices default_rng permutation memory_usage"
    " fromtimestamp utcfromtimestamp timestamp astimezone uuid5 timegm mktime".split()
)


@dataclass(frozen=True, slots=True)
class Program:
    """One program; it may import all of `IMPORTS`.

    Attributes:
        given: What it is given beside `inputs`, as descriptors of the suite.
        is_spliced: Whether it is made of pieces of the suite; then it may be refused.
    """

    seed: int
    is_wild: bool
    source: str
    given: Mapping[str, Any]
    is_spliced: bool


def program(seed: int, *, wild: bool) -> Program:
    """The program of a seed."""
    chance = random.Random(f"{seed} {wild}")
    made = _made(seed, chance, wild=wild)
    # What is refused at sight says little about what happens to code that runs.
    for _ in range(_TRIES if wild and chance.random() < 0.9 else 0):
        if _is_let_in(made.source):
            break
        made = _made(seed, chance, wild=wild)
    return made


_TRIES: Final = 12


def _made(seed: int, chance: random.Random, *, wild: bool) -> Program:
    if chance.random() < 0.3:
        return Program(seed, wild, *_spliced(chance, wild=wild), True)
    source = _Writer(chance, wild=wild).source()
    if wild and chance.random() < 0.15:
        source = _respelled(source, chance)
    return Program(seed, wild, source, {}, False)


def _is_let_in(source: str) -> bool:
    try:
        evaluation.compiled(source, "exec", frozenset(), frozenset(IMPORTS))
    except Exception:
        return False
    return True


def inputs(made: Program) -> dict[str, Any]:
    """What a program is given, anew."""
    import numpy as np
    import pandas as pd

    return {
        "given_rows": [{"city": "Ulm", "price": 3.5}, {"city": "Linz", "price": 7}],
        "given_words": ["river", "delta", "", "ÄöÜ", "a,b;c"],
        "given_table": pd.DataFrame(
            {"city": ["Ulm", "Ulm", "Linz"], "price": [3.0, 5.0, 7.0], "n": [1, 2, 3]}
        ),
        "given_array": np.arange(6).reshape(2, 3),
        "given_double": _double,
        **{name: build(raw) for name, raw in made.given.items()},
    }


def _double(value: Any) -> Any:
    return value * 2 if isinstance(value, (int, float)) else value


# ---------------------------------------------------------------------------- grammar

# Templates by kind: `<k>` is an expression of kind k, `<@>` a new name, bound in the rest.
_EXPRESSIONS: Final[Mapping[str, str]] = {
    "n": """
        <n> + <n>|<n> - <n>|<n> * <n>|<n> // <n>|<n> % <n>|<n> ** 2|<n> << 3|<n> >> 1
        <n> & <n>|<n> ^ <n>|-<n>|~<n>|abs(<n>)|len(<l>)|len(<s>)|len(<d>)|sum(<l>)
        max(<n>, <n>)|min(<l>, default=0)|<s>.count(<s>)|<s>.find(<s>)|ord(<s>[:1] or "a")
        int(<f>)|int(<s>.isdigit())|round(<f>)|<l>[0]|<l>[-1]|<u>[0]|<d>.get(<s>, <n>)
        (<n> if <B> else <n>)|(lambda x: x + <n>)(<n>)|sum(x * x for x in <l>)
        next(iter(<l>), <n>)|pow(<n>, 2)|pow(<n>, 3, 7)|divmod(<n>, 7)[0]|<n> or <n>
        hash(<n>)|len(<t>)|int("12" + "3")|<fn>(<n>)|given_double(<n>)
        math.gcd(<n>, <n>)|math.comb(9, 4)|functools.reduce(operator.add, <l>, 0)
        int(<arr>.sum())|len(<df>)|(<n>).bit_length()|sum(<g>)|max(<l>, key=lambda v: -v)
    """,
    "f": """
        <n> / 7|<f> + <f>|<f> * <f>|<f> - <n>|float(<n>)|round(<f>, 2)|abs(<f>)|math.sqrt(2)
        1.5|0.1|-2.25|1e3|float("1.5")|<f> ** 2|statistics.fmean(<l> or [1])
        math.fsum([<f>, <f>])|float(<df>["price"].mean())|(<f> if <B> else <f>)|sum([<f>])
    """,
    "B": """
        <n> < <n>|<n> == <n>|<s> in <s>|<n> in <l>|<s> in <d>|not <B>|<B> and <B>|<B> or <B>
        isinstance(<any>, int)|isinstance(<any>, (str, list))|all(<l>)|any(<l>)|bool(<any>)
        <s>.startswith(<s>)|<s>.isalpha()|0 <= <n> < 9|<n> not in <t>|<any> is None
        callable(<any>)|type(<any>) is int|type(<n>) == type(<f>)|hasattr(<s>, "upper")
        <l> == <l>|<s> <= <s>|<t> <= <t>|issubclass(bool, int)
    """,
    "s": """
        "a"|"Hello, World"|""|"äß"|"x=1; y=2"|"{}"|<s> + <s>|<s> * 2|<s>.upper()|<s>.strip()
        <s>.replace(<s>, <s>, 3)|<s>.split(",")[0]|",".join(<ls>)|str(<n>)|repr(<any>)
        (lambda v: f"{v}")(<n>)|(lambda v: f"{v:.2f}")(<f>)|(lambda v: f"{v!r:>8}")(<s>)
        (lambda v, w: f"{v:{w}d}")(<n>, <w>)|"%d-%s" % (<n>, <s>)
        "{} {}".format(<n>, <s>)|"{x[0]}".format(x=<l> or [1])|<s>[::-1]|<s>[1:<n>]
        <s>.center(9, "*")|<s>.zfill(5)|<s>.title()|<s>.join(<ls>)|<ls>[0]|str(<l>)
        min(<ls>)|chr(97 + <n> % 26)|hex(<n>)|bin(<n>)|format(<n>, ",")|ascii(<s>)
        <s>.encode().decode()|str(<b>)|<s>.partition(",")[2]|re.sub("[aeiou]", "_", <s>)
        textwrap.fill(<s>, 9)|json.dumps(<any>)|html.escape(<s>)|<s>.expandtabs(4)
        <s>.translate(str.maketrans("ab", "xy"))|<s>.format_map({"a": 1})|<s> % ()
        string.ascii_letters[<n> % 9]|"{:>{}}".format(<s>, 5)|<s>.removeprefix("a")
        (<s> if <B> else <s>)|str.lower(<s>)|"".join(reversed(<s>))|str(<any>)
        textwrap.indent(<s>, "> ")|unicodedata.normalize("NFC", <s>)|(lambda v: f"{v!s}")(<any>)
    """,
    "b": """
        b"ab"|<s>.encode()|bytes(<w>)|bytes([1, 2, 3])|<b> + <b>|<b> * 2|<b>[::-1]|b"%d" % <n>
        bytearray(b"xyz")|base64.b64encode(b"ab")|<b>.replace(b"a", b"bc")|(5).to_bytes(2, "big")
        b",".join([<b>, <b>])|<b>.hex().encode()|hashlib.sha256(<b>).digest()|<b>.upper()
    """,
    "l": """
        [<n>, <n>, <n>]|list(range(<w>))|[x + 1 for x in <l>]|sorted(<l>)|<l> + <l>|<l> * 2
        [x for x in <l> if x % 2]|[*<l>, <n>]|list(map(lambda v: v * 2, <l>))|<l>[1:]
        list(filter(None, <l>))|[len(w) for w in <ls>]|list(<t>)|list(<d>.values())|<l>[::-1]
        [a * b for a in <l> for b in range(3)]|sorted(<l>, key=lambda v: -v)|list(<g>)
        list(reversed(<l>))|list(itertools.islice(<g>, 4))|[y for y in [<n>, <n>]]|<l>.copy()
        list(itertools.accumulate(<l>))|[i * x for i, x in enumerate(<l>)]|heapq.nlargest(2, <l>)
        [max(p) for p in zip(<l>, <l>)]|<arr>.tolist()|<df>["n"].tolist()|list({*<l>})|[0] * <w>
        copy.deepcopy(<l>)|list(dict.fromkeys(<l>))|[int(d) for d in str(abs(<n>))]
    """,
    "ls": """
        ["a", "b"]|<s>.split(",")|given_words|[str(x) for x in <l>]|sorted(given_words)|<ls> + <ls>
        list(<d>)|[w.upper() for w in <ls>]|list(<s>)|<s>.splitlines()|[f"{x}" for x in <l>]
        re.findall("[a-z]+", <s>)|list(map(str, <l>))|<df>["city"].tolist()|textwrap.wrap(<s>, 9)
    """,
    "d": """
        {"a": <n>, "b": <n>}|dict(zip(<ls>, <l>))|{w: len(w) for w in <ls>}|{**<d>, "z": <n>}
        dict(a=<n>)|<d> | <d>|collections.Counter(<s>)|dict(sorted(<d>.items()))
        {k: v for k, v in <d>.items()}|dict.fromkeys(<ls>, <n>)|<d>.copy()|json.loads('{"q": 3}')
        {str(i): x for i, x in enumerate(<l>)}|dict(collections.Counter(<ls>).most_common(2))
        {x["city"]: 1 for x in given_rows}
    """,
    "t": """
        {<n>, <n>}|set(<l>)|<t> | <t>|<t> & <t>|<t> - <t>|{x % 3 for x in <l>}|frozenset(<l>)
        set(<t>).union(<l>)|<t> ^ <t>|set(<d>.values())|{1}.symmetric_difference(<l>)
    """,
    "u": """
        (<n>, <s>)|tuple(<l>) + (<n>,)|divmod(<n>, 5)|(<n>, *<l>)|<s>.partition(" ")|(<n>, (<s>, <f>))
        (1, 2) * 2|tuple(x for x in <l>) or (0,)|next(iter(<d>.items()), (0,))|(<any>, <any>)
    """,
    "g": """
        (x for x in <l>)|iter(<l>)|map(abs, <l>)|(x * 2 for x in <l> if x)|itertools.chain(<l>, <l>)
        filter(None, <l>)|reversed(<l>)|itertools.islice(itertools.count(<n>), 5)|iter(range(<w>))
        itertools.takewhile(lambda v: v < 5, <l>)|(a for a in <g>)|itertools.repeat(<n>, 3)
    """,
    "fn": """
        (lambda v: v)|(lambda v, w=2: v + w)|abs|functools.partial(max, 0)|(lambda *a: len(a))
        (lambda v: v * 2 if v else 1)|functools.lru_cache(lambda v: v - 1)|int|operator.neg
    """,
    "arr": """
        numpy.array(<l>)|numpy.arange(<w>)|given_array|<arr> + 1|<arr> * 2|numpy.zeros(<w>)
        numpy.linspace(0, 1, 3)|<arr>.reshape(-1)|numpy.where(<arr> > 1, 1, 0)|<arr>[:1]|-<arr>
        numpy.cumsum(<arr>)|numpy.sort(<arr>)|numpy.concatenate([<arr>, <arr>])
    """,
    "df": """
        given_table|pandas.DataFrame({"n": [1, 2], "price": [1.5, 2.5], "city": ["a", "b"]})
        <df>.sort_values("n")|<df>.head(2)|<df>[<df>["n"] > 1]|<df>.assign(n=<n> % 99)
        <df>.query("n > 0")|<df>.reset_index(drop=True)|<df>.copy()|<df>.dropna()
        <df>.fillna(0)|<df>.rename(columns={"x": "y"})|<df>.drop_duplicates()
    """,
    "ser": """
        <df>["price"]|<df>["n"]|<df>.groupby("city")["n"].sum()|<ser> * 2|<ser>.round(1)
        <df>["city"].str.upper()|pandas.Series(<l>)|<ser>.head(2)|<ser>.cumsum()|<ser>.rank()
        <df>.groupby("city").price.mean()|<df>["n"].apply(lambda v: v + 1)|<ser>.shift(1)
        <df>["city"].value_counts()|<df>["n"].map({1: 2})|<ser>.to_frame().sum()
    """,
    "o": """
        datetime.date(2024, 2, 29)|datetime.datetime(2024, 1, 2, 3, 4)|datetime.timedelta(days=<w>)
        datetime.time(12, 30)|decimal.Decimal("1.10")|fractions.Fraction(<n>, 3)|slice(1, <n>)
        uuid.UUID(int=5)|collections.Counter(<s>)|collections.deque(<l>)|range(<w>)|complex(1, 2)
        collections.OrderedDict(<d>)|collections.defaultdict(int, <d>)|re.compile("(a)(b)?")
        re.match("(a)?(.)", <s> + "a")|statistics.NormalDist(0, 1)|<d>.keys()|<d>.items()
        collections.namedtuple("P", "x y")(<n>, <s>)|datetime.timezone.utc|<o> + <o>|<o> - <o>
        decimal.Decimal(<n>).as_tuple()|datetime.date(2024, 1, 1).isocalendar()|<fn>|<o> * <n>
        pandas.Timestamp("2024-01-02")|pandas.Timedelta(days=2)|<df>.groupby("city")|<df>.dtypes
        <ser>.str|pandas.date_range("2024", periods=3)|<ser>.rolling(2)|<arr>.dtype|numpy.float64(2)
    """,
}
_LEAVES: Final[Mapping[str, str]] = {
    "n": "0|1|2|3|7|10|-1|255|1_000|True",
    "w": "0|1|3|5|8",
    "f": "0.5|1.5|-2.25",
    "B": "True|False",
    "s": '"a"|"Hello, World"|"b,c"|""|"äß"',
    "b": 'b"ab"|b""',
    "l": "[1, 2, 3]|[]|[5, -1, 5]",
    "ls": '["a", "b"]|given_words',
    "d": '{"a": 1}|{}|given_rows[0]',
    "t": "{1, 2}|set()",
    "u": '(1, "a")|(0,)',
    "g": "iter([1, 2])",
    "fn": "(lambda v: v)|abs|len|str",
    "arr": "given_array|numpy.array([1, 2])",
    "df": "given_table",
    "ser": 'given_table["n"]',
    "o": 'range(3)|decimal.Decimal("2.5")|1j',
    "any": "None|1|'a'|[1]|{}|()|2.5|...",
}
_KINDS: Final = [kind for kind in _EXPRESSIONS if kind != "w"]

_STATEMENTS: Final = """
<@> = <any>
<@>, <@> = <u>[:1] + (<n>,)
<@>, *<@> = <l> or [0]
<@> = <@> = <any>
<@>: int = <n>
acc += <n>
acc -= <n>
acc *= 3; acc %= 1009
acc = acc * 2 + <n>; acc = acc % 1_000_003
log.append(<any>)
log += [<any>]
log += <l>
log[0:1] = <l>
log[:0] = (<any>,)
box[<s>] = <any>
box["k"] = box.get("k", 0) + <n>
box.setdefault(<s>, []); box |= <d>
for <@> in <l>:¶    acc += <n>¶    if <B>: continue
for i, <@> in enumerate(<ls>):¶    log.append((i, <s>))
for a, *<@> in [(1, 2, 3), (<n>, <n>)]:¶    log.append(a)
for <@> in <g>:¶    if <B>: break¶    log.append(<any>)¶else:¶    acc += 1
for i in range(<w>):¶    for j in range(i):¶        acc += i * j % 7
i = 0¶while i < <w>:¶    i += 1¶    if <B>: break¶    acc += i
if <B>:¶    acc += <n>¶elif <B>:¶    log.append(<any>)¶else:¶    acc -= 1
try:¶    log.append(<any>)¶except (TypeError, ValueError) as e:¶    log.append(1)¶finally:¶    acc += 1
try:¶    acc += <n>¶except:¶    acc = 0
try:¶    raise ValueError(<s>)¶except ValueError as e:¶    log.append(str(e))¶else:¶    acc = 1
match <any>:¶    case int(): acc += 1¶    case [a, *rest]: log.append(a)¶    case {"a": q}: log.append(q)¶    case _: pass
match <u>:¶    case (int(x), str() as y) if x: log.append(y)¶    case (x, _): acc += 1¶    case _: acc = 0
match <n>:¶    case 0 | 1: acc += 1¶    case -1: acc -= 1¶    case v: log.append(v)
def f<w>(v, w=<n>, *rest, k=1, **more):¶    return v if <B> else [w, len(rest), k]¶log.append(f<w>(<any>) if "f0" in box else 0)
def walk(v):¶    for x in v:¶        yield x¶    yield from <l>¶    return 5¶log.append(list(walk(<l>)))
def deep(v):¶    return v if v < 1 else deep(v - 1) + 1¶acc += deep(<w>)
def outer():¶    total = 0¶    def inner():¶        nonlocal total¶        total += <n>¶        return total¶    inner()¶    return inner()¶acc += outer()
def bump():¶    global acc¶    acc += 1¶bump()
@functools.lru_cache(maxsize=None)¶def fib(k):¶    return k if k < 2 else fib(k - 1) + fib(k - 2)¶acc += fib(12)
assert <B>, <s>
del log[:1]
box.pop(<s>, None)
log.sort(key=repr)
log = [*log, <any>]
print(<any>, sep=<s>)
grid = [[0] * 3 for row in range(2)]; grid[1][2] += <n>; log.append(grid)
fields = <ls>; fields[0:1] *= 2; log.append(fields)
grid = [[2, 3, 4], [5, 6, 7]]; grid[acc % 2][log.append(1) or 1] *= <n>; log.append(grid)
grid = [<n>, <n>, <l>]; grid[1] += <n>; grid[0] **= 2; grid[0] %= 99; grid[2] += <l>; log.append(grid)
grid = {"a": <s>, "b": <n>}; grid["a"] *= 2; grid["b"] <<= 2; grid["a"] += <s>; log.append(grid)
<@> = [(y := <n>), y + 1]
if (y := <n>) > 2: acc += y
log.append({k: [*v] for k, v in {"a": <l>}.items()})
""".strip().split("\n")

# What reaches out, or for too much, where any expression may stand.
_DANGERS: Final = r"""
<any>.__class__|<any>.__dict__|(lambda: 0).__globals__|(lambda: 0).__code__|<any>.__init__
().__class__.__base__.__subclasses__()|<g>.gi_frame|<g>.gi_code|<g>.gi_frame.f_back.f_builtins
getattr(<any>, "__class__")|getattr(<any>, "__" + "class__")|getattr(<any>, <s>)
getattr(<any>, "gi_frame", 0)|hasattr(<any>, "__class__")|type(<any>)|type(type(<any>))
type(<any>)(<any>)|type(<any>)(<any>, <any>)|type("X", (), {})|type(<fn>)(<any>)
"{0.__class__}".format(<any>)|"{a.b}".format(a=<any>)|"{0[__class__]}".format(<any>)
"{x.__init__}".format_map({"x": <any>})|"%(a)s" % {"a": <any>}|(lambda v: f"{v.__class__}")(<any>)
"{:{w}}".format(1, w=<big>)|(lambda v, w: f"{v:{w}}")(<any>, <big>)|"%*d" % (<big>, 1)|format(<n>, str(<big>))
"%(a(b))" + str(<big>) + "d"|("%(a(b))" + str(<big>) + "d") % {"a(b)": 1}|str.format
<s> * <big>|<l> * <big>|<u> * <big>|<b> * <big>|<o> * <big>|<big> * <big>|<arr> * <big>
<n> ** <big>|<big> ** <big>|<n> << <big>|<o> ** <big>|<big> ** <o>|pow(<big>, <big>, <big>)
((((3 ** 64) ** 64) ** 64) ** 64) ** 64|True.to_bytes(<big>, "big")|(1).to_bytes(<big>, "big")
int("f" * <big>, 16)|int.from_bytes(bytes(<big>))|bytes(<big>)|bytearray(<big>)|[0] * <big>
list(range(<big>))|sum(range(<big>))|max(range(<big>))|<big> in range(<big>)|range(<big>).count("a")
<d>.keys() & range(<big>)|<d>.keys() | range(<big>)|<d>.keys().isdisjoint(range(<big>))
<t>.union(range(<big>))|dict.fromkeys(range(<big>))|dict(zip(range(<big>), range(<big>)))
[*range(<big>)]|{*range(<big>)}|(lambda *a: len(a))(*range(<big>))|tuple(itertools.repeat(1))
list(itertools.count())|list(itertools.product(<l>, repeat=<w> + 20))|any(itertools.repeat(0))
"a".join(itertools.repeat("b"))|zip(*[range(<big>)] * 3)|<s>.ljust(<big>)|<s>.zfill(<big>)
<s>.expandtabs(<big>)|<s>.replace("", <s> * 99)|"\t".expandtabs(<big>)|<s>.translate({97: "b" * 99})
("a" * 9_999_999).rfind("a" * 9 + "b" + "a" * 4_000_000)|round(<big>, -<big>)|math.factorial(<big>)
re.match("(a+)+b", "a" * 40)|re.match("(?:a{1,16})*b", "a" * 40)|re.sub("", <s> * 99, <s> * 999)
textwrap.indent("a\n" * 99, " " * <big>)|json.dumps(<l>, indent="x" * <big>)|json.loads("[" * 9_999)
math.perm(<big>)|math.comb(<big>, <big>)|math.lcm(*range(1, 999))|math.prod([<big>] * 99)
decimal.Decimal("1e999999")|fractions.Fraction("1e999999")|decimal.Decimal(<n>) ** <big>
<df>.eval("__import__('os')")|<df>.query("@acc")|<df>.eval("n.__class__")|<df>.to_csv("x")
<df>.query(<s>)|<df>.eval("city * " + str(<big>))|<df>.pipe(print)|<df>.apply(<s>)|<df>.agg(<s>)
<df>.agg("to_pickle")|<df>.groupby("city").apply("to_csv")|<df>.filter(regex="(a+)+b")
<df>.to_dict(into=<any>)|pandas.read_csv(<s>)|pandas.eval(<s>)|<df>.values.data|<arr>.ctypes
<arr>.tofile("x")|numpy.fromfile("x")|numpy.load("x")|numpy.core|numpy.random.bit_generator
numpy.zeros(<big>)|numpy.arange(<big>)|type(<arr>)(<w>)|type(<arr>)((<w>,), object)|type(<df>)(<any>)
numpy.array([<any>], dtype="O") * <big>|numpy.array(["a"])[0] * <big>|numpy.vectorize(<fn>)
[0] * numpy.int64(<big>)|pandas.RangeIndex(<big>).tolist()|pandas.Series([1]).repeat(<big>)
collections.namedtuple("P", "a")(1) * <big>|time.gmtime(0) * <big>|collections.namedtuple("__class__", "a")
collections.namedtuple("P", "a")._make|collections.Counter(a=<big>).elements()|functools.partial.func
functools.partial(<fn>).func|operator.attrgetter("__class__")|operator.itemgetter("a")(<any>)
globals()|locals()|vars()|vars(<any>)|dir()|eval("1")|exec("1")|compile("1", "", "eval")|open("x")
__import__("os")|__builtins__|__loader__|__name__|input()|breakpoint()|object|super|property
memoryview(b"a")|classmethod|staticmethod|delattr(<any>, "a")|setattr(<any>, "a", 1)|id(<any>)
(yield)|(yield <any>)|(await <any>)|<any>[<any>]|<any>(<any>)|<any>.<name>|<any>.<name>(<any>)
<o>.<name>(<any>, <any>)|<g>.throw(<any>)|<g>.send(<any>)|<any> @ <any>|<any> < <any>|{<any>: <any>}
{<any>}|{**<any>}|[*<any>]|<any>(*<any>, **<any>)|print(file=<any>)|sorted([<any>, <any>])
reversed(<any>)|iter(<any>, 0)|slice(<any>, <any>)|<u>[<any>:<any>]|math.__spec__|json.codecs
json.decoder|re.sys|statistics.sys|datetime.sys|typing.sys|collections.abc|random._os|string.Formatter
string.Template("$a").substitute(a=1)|copy.copy(<any>)|copy.deepcopy(<fn>)|json.dumps(<any>, default=<fn>)
Exception(<any>).args|ValueError().__traceback__|StopIteration(<any>).value|KeyError(<any>)
UnicodeDecodeError("a", b"", 0, 9, "b")|str(UnicodeEncodeError("a", "", -9, <big>, ""))
hash(<any>)|repr(<any>)|str(<any>)|sum(<any>, <any>)|max(<any>, key=<any>)|map(<any>, <any>)
""".replace("\n", "|")
_DANGEROUS_STATEMENTS: Final = r"""
import os
import sys as math
from os import path
from math import __doc__
from pandas import io
import numpy.core as c
from . import x
import json.decoder as d; log.append(d)
class A: pass
with <any> as x: pass
async def f(): pass
len = <any>
print: int = 1
<any>.a = 1
del <any>.a
__x = 1
_ = <any>
for __x in <l>: pass
for box[0] in <l>: pass
for box[<any>], *log in [<l>]: pass
try:¶    raise SystemExit¶except BaseException: pass
while True:¶    try:¶        for i in range(10 ** 9): acc += 1¶    except:¶        acc = 0
while True:¶    try:¶        for i in range(10 ** 9): acc += 1¶    finally:¶        for i in range(10 ** 9): acc += 1
for i in range(10 ** 9):¶    try:¶        list(map(lambda v: sum(range(v)), range(10 ** 6)))¶    except (Exception, ValueError): pass
def gen():¶    try:¶        yield 1¶    finally:¶        while True: pass¶while True:¶    g = gen(); next(g); g = None
def again():¶    try:¶        again()¶    finally:¶        again()¶again()
def spin(): return spin()¶spin()
try:¶    acc = 1¶finally:¶    return
while True:¶    log.append([0] * 10 ** 6)
while True:¶    log += log + [0]
text = "a"¶while True:¶    text += text
text = ["a"]¶while True:¶    text[0] += text[0]
while True: acc = acc * acc + 3
while True: acc = acc + acc + 1
acc = 3¶b = acc ** 64¶c = b ** 64¶d = c ** 64¶e = d ** 64¶log.append(e ** 64 > 1)
x = <any>¶for i in range(60): x = (x, x)¶log.append(x)
x = <any>¶for i in range(60): x = [x, x]¶box["x"] = x
x = ()¶for i in range(10 ** 5): x = (x,)¶log.append(hash(x))
x = <any>¶for i in range(10 ** 5): x = slice(x)
x = []¶for i in range(10 ** 5): x = [x]¶log.append(x == x[0])
x = <g>¶for i in range(10 ** 5): x = (y for y in x)
x = <fn>¶for i in range(10 ** 5): x = functools.partial(x, x)
x = {}¶for i in range(10 ** 5): x = {1: x}¶log.append(x)
log.append(log); box["box"] = box; log.append(box)
match <any>:¶    case object(__class__=c): log.append(c)¶    case _: pass
match <any>:¶    case int(real=c): log.append(c)¶    case _: pass
match <any>:¶    case math.pi: acc = 1¶    case {"a": __x}: pass¶    case {**__r}: pass¶    case [*__s]: pass
match range(<big>):¶    case [a, *b]: log.append(a)
match [range(<big>)]:¶    case [[a, *b]]: log.append(a)
a, *b = range(<big>)
log[:] = range(<big>)
log += range(<big>)
box |= zip(range(<big>), range(<big>))
log[0:1] *= <big>
log *= <big>
acc **= <big>
acc <<= <big>
text = "%1000000000d"; text %= 1
def f(__x): pass
lambda __x: 0
f(__x=1)
global __x
nonlocal acc
@<any>¶def f(): pass
def f(v=<any>): return f¶log.append(f)
return <any>
yield <any>
del len
del log, box
raise <any>
raise <any> from <any>
assert <any>, <any>
except_ = 1
sorted(range(10 ** 6), key=lambda v: log.append(v))
log.sort(key=lambda v: log.clear())
for x in log: log.append(x)
for k in box: box[k + "a"] = 1
{}[<any>] = <any>
log[<any>] = <any>
log[<any>] += <any>
box[<any>] %= <any>
x: "__import__('os')" = 1
def f(v: "__import__('os')" = 1) -> __import__: pass
""".strip().split("\n")
_BIG: Final = "10 ** 4|10 ** 7|10 ** 9|10 ** 12|10 ** 18|2 ** 64|-10 ** 9|True|1e9|99"


class _Writer:
    """Writes one program; its depth and length are small, since most faults are."""

    def __init__(self, chance: random.Random, *, wild: bool) -> None:
        self._chance = chance
        self._danger = chance.choice((0.05, 0.15, 0.3)) if wild else 0.0
        self._is_wild = wild
        self._names: dict[str, list[str]] = {
            "n": ["acc"],
            "any": ["log", "box"] if wild else [],
        }
        self._count = 0

    def source(self) -> str:
        used = self._chance.randint(1, 3 if self._is_wild else 7)
        body = ["acc = 0; log = [0]; box = {}", *(self._statement() for _ in range(used))]
        text = "\n".join(body)
        mentioned = [name for name in IMPORTS if f"{name}." in text]
        return "\n".join([*(f"import {name}" for name in mentioned), text])

    def _statement(self) -> str:
        if self._is_wild and self._chance.random() < 0.2:
            return self._filled(self._chance.choice(_DANGEROUS_STATEMENTS), 2)
        text = self._filled(self._chance.choice(_STATEMENTS), self._chance.randint(1, 4))
        if self._chance.random() < 0.6:
            # Most of what is put together at random fails; the rest shall run too.
            inner = text.replace("\n", "\n    ")
            return f"try:\n    {inner}\nexcept Exception as why:\n    log.append(why.args == 1)"
        return text

    def _expression(self, kind: str, depth: int) -> str:
        chance = self._chance
        if kind == "big":
            return f"({chance.choice(_options(_BIG))})"
        if kind == "name":
            return chance.choice(_all_names())
        if chance.random() < self._danger:
            if chance.random() < 0.5:
                kind = "any"
            else:
                return f"({self._filled(chance.choice(_options(_DANGERS)), depth - 1)})"
        known = self._names.get(kind)
        if known and chance.random() < 0.3:
            return chance.choice(known)
        if kind == "any" and depth > 0:
            if chance.random() < 0.25:
                return self._call(depth - 1)
            kind = chance.choice(_KINDS)
        if depth <= 0 or kind == "w":
            return f"{chance.choice(_options(_LEAVES[kind]))}"
        return f"({self._filled(chance.choice(_options(_EXPRESSIONS[kind])), depth - 1)})"

    def _call(self, depth: int) -> str:
        """A call of any name that is offered, of a module, a class or a value."""
        chance = self._chance
        what, names = chance.choice(_callables())
        # What is fickle would not compare; what waits would only take time.
        names = names if self._is_wild else sorted(set(names) - _FICKLE)
        if not names:
            return "None"
        name = chance.choice(names)
        kinds = [chance.choice([*_KINDS, "w"]) for _ in range(chance.randint(0, 3))]
        arguments = ", ".join(self._expression(kind, min(depth, 1)) for kind in kinds)
        owner = self._filled(what, min(depth, 1))
        called = chance.random() < 0.9
        return f"({owner}).{name}({arguments})" if called else f"({owner}).{name}"

    def _filled(self, template: str, depth: int) -> str:
        pieces = []
        rest = template.replace("¶", "\n")
        bound: list[str] = []
        while True:
            before, mark, after = rest.partition("<")
            kind, end, tail = after.partition(">")
            pieces.append(before)
            if not mark:
                break
            if not end or not (kind == "@" or kind.isalpha()):
                pieces.append(mark)
                rest = after
                continue
            if kind == "@":
                self._count += 1
                bound.append(f"v{self._count}")
                pieces.append(bound[-1])
            else:
                pieces.append(self._expression(kind, depth))
            rest = tail
        if bound and not template.startswith(("for", "def")):
            self._names["any"] += bound
        return "".join(pieces)


@functools.cache
def _options(text: str) -> tuple[str, ...]:
    parts = [part.strip() for line in text.split("\n") for part in _split(line)]
    return tuple(part for part in parts if part)


def _split(line: str) -> list[str]:
    """Alternatives are parted by a bar without spaces; one with them is an operator."""
    parts = line.replace(" | ", "\0").split("|")
    return [part.replace("\0", " | ") for part in parts]


_OWNERS: Final[Mapping[tuple[str, str], str]] = {
    ("builtins", "str"): "<s>",
    ("builtins", "bytes"): "<b>",
    ("builtins", "bytearray"): "bytearray(<b>)",
    ("builtins", "int"): "<n>",
    ("builtins", "bool"): "<B>",
    ("builtins", "float"): "<f>",
    ("builtins", "complex"): "1j",
    ("builtins", "list"): "<l>",
    ("builtins", "tuple"): "<u>",
    ("builtins", "dict"): "<d>",
    ("builtins", "set"): "set(<t>)",
    ("builtins", "frozenset"): "frozenset(<t>)",
    ("builtins", "range"): "range(<w>)",
    ("builtins", "slice"): "slice(<w>)",
    ("builtins", "generator"): "(x for x in <l>)",
    ("builtins", "dict_keys"): "<d>.keys()",
    ("builtins", "dict_items"): "<d>.items()",
    ("datetime", "date"): "datetime.date(2024, 2, 29)",
    ("datetime", "time"): "datetime.time(1, 2)",
    ("datetime", "datetime"): "datetime.datetime(2024, 1, 2, 3, 4)",
    ("datetime", "timedelta"): "datetime.timedelta(days=<w>)",
    ("datetime", "timezone"): "datetime.timezone.utc",
    ("decimal", "Decimal"): 'decimal.Decimal("1.10")',
    ("fractions", "Fraction"): "fractions.Fraction(<w>, 3)",
    ("uuid", "UUID"): "uuid.UUID(int=<w>)",
    ("collections", "Counter"): "collections.Counter(<s>)",
    ("collections", "OrderedDict"): "collections.OrderedDict(<d>)",
    ("collections", "defaultdict"): "collections.defaultdict(int, <d>)",
    ("collections", "deque"): "collections.deque(<l>)",
    ("re", "Match"): 're.match("(a)(c)?", "ab")',
    ("re", "Pattern"): 're.compile("a(b)?")',
    ("statistics", "NormalDist"): "statistics.NormalDist(0, 1)",
}
_FOREIGN: Final[Mapping[str, str]] = {
    "DataFrame": "<df>",
    "Series": "<ser>",
    "Index": "<ser>.index",
    "GroupBy": '<df>.groupby("city")',
    "Window": "<ser>.rolling(2)",
    "StringMethods": '<df>["city"].str',
    "Properties": 'pandas.Series(pandas.date_range("2024", periods=2)).dt',
    "CategoricalAccessor": '<df>["city"].astype("category").cat',
    "Moment": 'pandas.Timestamp("2024-01-02")',
    "Array": "<arr>",
    "Generator": "numpy.random.default_rng(1)",
}


@functools.cache
def _callables() -> tuple[tuple[str, list[str]], ...]:
    """Every owner of names, and the names that are offered of it."""
    found = [(what, sorted(OF_VALUES[kind])) for kind, what in _OWNERS.items()]
    found += [
        (what if module == "builtins" else f"{module}.{what}", sorted(names))
        for (module, what), names in OF_CLASSES.items()
    ]
    found += [(what, sorted(KINDS[kind])) for kind, what in _FOREIGN.items()] * 2
    for name in IMPORTS:
        view = view_of(name)
        found.append((name, sorted(_names_of(view))))
        for inner, value in _names_of(view).items():
            if isinstance(value, Given):
                found.append((f"{name}.{inner}", sorted(_names_of(value))))
    return tuple(found)


def _names_of(view: Given) -> Mapping[str, Any]:
    names: Mapping[str, Any] = view._names  # there is no public way to list a view
    return names


@functools.cache
def _all_names() -> tuple[str, ...]:
    private = "__class__ _x __dict__ __func__ func gi_frame f_globals tb_frame mro throw"
    return tuple({name for _, names in _callables() for name in names} | {*private.split()})


# ----------------------------------------------------------------- pieces of the suite


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Sources of the suite as trees, with what they are given; and all their expressions."""

    trees: tuple[tuple[ast.Module, Mapping[str, Any]], ...]
    expressions: tuple[ast.expr, ...]


@functools.cache
def _pieces(*, wild: bool) -> _Pieces:
    trees: list[tuple[ast.Module, Mapping[str, Any]]] = []
    for case in [*(load("attacks_policy") if wild else ()), *load("harmless")]:
        if not isinstance(case.source, str) or len(case.source) > 2_000:
            continue
        if wild or not (not _RUNS_HERE.issuperset(case.needs) or _is_fickle(case.source)):
            try:
                trees.append((ast.parse(case.source), case.given))
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
    expressions = [
        node
        for tree, _ in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.expr) and not isinstance(node, _SIMPLE)
        if not isinstance(getattr(node, "ctx", None), (ast.Store, ast.Del))
    ]
    return _Pieces(tuple(trees), tuple(expressions))


# Not worth to be put elsewhere, or not possible: a format is an f-string within one.
_SIMPLE: Final = (ast.Name, ast.Constant, ast.JoinedStr)
_RUNS_HERE: Final = frozenset({"pandas", "numpy", "imports"})


def _is_fickle(source: str) -> bool:
    return not _FICKLE.isdisjoint(re.findall(r"\w+", source))


class _Splicing(ast.NodeTransformer):
    def __init__(self, chance: random.Random, pieces: _Pieces, rate: float) -> None:
        self._chance = chance
        self._pieces = pieces
        self._rate = rate

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        returns, node.returns = node.returns, None  # which means nothing here
        self.generic_visit(node)
        node.returns = returns
        return node

    def visit_arg(self, node: ast.arg) -> Any:
        return node

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, (ast.pattern, ast.JoinedStr)):
            return node
        is_value = isinstance(node, ast.expr) and not isinstance(
            getattr(node, "ctx", None), (ast.Store, ast.Del)
        )
        if is_value and self._chance.random() < self._rate:
            return self._chance.choice(self._pieces.expressions)
        return super().visit(node)


def _spliced(chance: random.Random, *, wild: bool) -> tuple[str, dict[str, Any]]:
    """Two sources of the suite, one after the other, with expressions of other ones."""
    pieces = _pieces(wild=wild)
    texts: list[str] = []
    given: dict[str, Any] = {}
    for _ in range(chance.randint(1, 2)):
        whole, its = chance.choice(pieces.trees)
        tree = ast.parse(ast.unparse(whole))
        try:
            spliced = _Splicing(chance, pieces, chance.choice((0.02, 0.1))).visit(tree)
            text = ast.unparse(spliced)
            compile(text, "<spliced>", "exec", dont_inherit=True)
        except (ValueError, SyntaxError, RecursionError):
            continue  # a piece that can stand in its place only
        if any(isinstance(node, ast.AnnAssign) for node in ast.walk(spliced)):
            continue  # annotations are not evaluated, as in a function
        texts.append(text)
        given |= its
    imports = [f"import {name}" for name in IMPORTS if any(f"{name}." in t for t in texts)]
    return "\n".join(["acc = 0; log = [0]; box = {}", *imports, *texts]), given


_SPELLINGS: Final[tuple[Callable[[str], str], ...]] = (
    lambda c: chr(0x1D41A + ord(c) - 97),
    lambda c: chr(0x1D4EA + ord(c) - 97),
    lambda c: chr(0xFF41 + ord(c) - 97),
)


def _respelled(source: str, chance: random.Random) -> str:
    """The same with names, underscores and line ends that Python takes for the same."""

    def other(found: re.Match[str]) -> str:
        name = found[0]
        if keyword.iskeyword(name) or chance.random() < 0.7:
            return name
        at = chance.randrange(len(name))
        letter = name[at]
        spelled = "\uff3f" if letter == "_" else chance.choice(_SPELLINGS)(letter)
        return name[:at] + spelled + name[at + 1 :]

    ends = chance.choice(("\n", "\r\n", "\r", "\n\f"))
    return re.sub(r"\b[a-z_]+\b", other, source).replace("\n", ends)
