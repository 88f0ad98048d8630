"""What contained code may use of numpy and pandas: lists of names, by kind of object.

Left out is what reads or writes files, addresses, memory or sources: every ``read_*``, the
``to_*`` that only write, ``ctypes``, ``data``, ``tofile``, ``as_strided``, plots.
"""

from __future__ import annotations

from typing import Final

__all__ = ["KINDS", "NUMPY", "NUMPY_LINALG", "NUMPY_RANDOM", "PANDAS"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STATISTICS: Final = _words("""
    abs all any argmax argmin count cummax cummin cumprod cumsum describe diff kurt max
    mean median min mode nunique pct_change prod quantile rank sem size skew std sum var
""")
_FRAME: Final = _STATISTICS | _words("""
    add add_prefix add_suffix agg aggregate align apply applymap asfreq asof assign
    astype at at_time attrs axes between_time bfill bool boxplot_frame clip columns
    combine combine_first compare convert_dtypes copy corr corrwith cov div divide dot
    drop drop_duplicates droplevel dropna dtypes duplicated empty eq equals eval ewm
    expanding explode ffill fillna filter first first_valid_index floordiv ge get
    groupby gt head iat idxmax idxmin iloc index infer_objects insert interpolate
    isetitem isin isna isnull items iterrows itertuples join keys kurtosis last
    last_valid_index le loc lt map mask melt memory_usage merge mod mul multiply ndim ne
    nlargest notna notnull nsmallest pipe pivot pivot_table pop pow product query radd
    rdiv reindex reindex_like rename rename_axis reorder_levels replace resample
    reset_index rfloordiv rmod rmul rolling round rpow rsub rtruediv sample
    select_dtypes set_axis set_index shape shift sort_index sort_values squeeze stack
    sub subtract swaplevel T tail take to_csv to_dict to_html to_json to_latex
    to_markdown to_numpy to_period to_records to_string to_timestamp transform transpose
    truediv truncate tz_convert tz_localize unstack update value_counts values where xs
""")
_SERIES: Final = (
    _FRAME
    | _words("""
    argsort array autocorr between cat dt dtype factorize hasnans
    is_monotonic_decreasing is_monotonic_increasing is_unique item name nbytes ravel
    repeat searchsorted str to_frame to_list tolist unique case_when
""")
) - _words("""
    columns iterrows itertuples query eval applymap melt pivot pivot_table merge join
    select_dtypes set_index isetitem insert assign
""")
_INDEX: Final = _words("""
    all any append argmax argmin argsort array asof astype ceil copy date day day_name
    day_of_week day_of_year dayofweek dayofyear days delete difference drop
    drop_duplicates droplevel dropna dtype duplicated empty end_time equals factorize
    fillna floor format freq freqstr from_arrays from_frame from_product from_tuples
    get_indexer get_level_values get_loc hasnans hour identical insert intersection
    is_leap_year is_monotonic_decreasing is_monotonic_increasing is_month_end
    is_month_start is_quarter_end is_quarter_start is_unique is_year_end is_year_start
    isin isna isnull isocalendar item join levels left length levshape map max
    microsecond mid min minute month month_name name names nanosecond ndim nlevels
    normalize notna notnull nunique putmask quarter rename repeat right round
    searchsorted second set_levels set_names shape shift size slice_indexer slice_locs
    sort sort_values sortlevel start start_time step stop str strftime swaplevel
    symmetric_difference T take time timetz to_flat_index to_frame to_list to_numpy
    to_period to_pydatetime to_series to_timestamp tolist total_seconds transpose tz
    tz_convert tz_localize union unique value_counts values week weekday where year
    seconds microseconds nanoseconds components
""")
_GROUPS: Final = _STATISTICS | _words("""
    agg aggregate apply bfill corr corrwith cov cumcount dtype dtypes ewm expanding
    ffill fillna filter first get_group groups head hist_values idxmax idxmin indices
    last is_monotonic_decreasing is_monotonic_increasing kurt name ndim ngroup ngroups
    nlargest nsmallest nth ohlc pipe resample rolling sample shift tail take transform
    unique value_counts
""")
_WINDOW: Final = _STATISTICS | _words("""
    agg aggregate apply asfreq bfill corr cov ffill first interpolate kurt last nearest
    ohlc pipe transform
""")
_STR: Final = _words("""
    capitalize casefold cat center contains count decode encode endswith extract
    extractall find findall fullmatch get get_dummies index isalnum isalpha isascii
    isdecimal isdigit islower isnumeric isspace istitle isupper join len ljust lower
    lstrip match normalize pad partition removeprefix removesuffix repeat replace rfind
    rindex rjust rpartition rsplit rstrip slice slice_replace split startswith strip
    swapcase title translate upper wrap zfill
""")
_DT: Final = _words("""
    ceil components date day day_name day_of_week day_of_year dayofweek dayofyear days
    days_in_month daysinmonth end_time floor freq hour is_leap_year is_month_end
    is_month_start is_quarter_end is_quarter_start is_year_end is_year_start isocalendar
    microsecond microseconds minute month month_name nanosecond nanoseconds normalize
    quarter qyear round second seconds start_time strftime time timetz to_period
    to_pydatetime to_pytimedelta to_timestamp total_seconds tz tz_convert tz_localize
    unit week weekday weekofyear year
""")
_CAT: Final = _words("""
    add_categories as_ordered as_unordered categories codes ordered remove_categories
    remove_unused_categories rename_categories reorder_categories set_categories
""")
_MOMENT: Final = _DT | _words("""
    asfreq asm8 astimezone combine ctime dst fold fromisoformat fromtimestamp isoformat
    isoweekday max min now ordinal replace resolution strptime timestamp timetuple today
    toordinal to_datetime64 to_numpy to_timedelta64 tzinfo tzname utcoffset value
    view_days freqstr
""")
_ARRAY: Final = _words("""
    all any argmax argmin argpartition argsort astype choose clip compress conj
    conjugate copy cumprod cumsum diagonal dot dtype fill flatten imag item itemsize max
    mean min nbytes ndim nonzero partition prod ptp ravel real repeat reshape round
    searchsorted shape size sort squeeze std sum swapaxes T take tobytes tolist trace
    transpose var is_integer as_integer_ratio categories codes ordered isna unique
    value_counts dropna fillna to_numpy name kind left right closed length mid
""")

#: Names by the kind of object.
KINDS: Final = {
    "DataFrame": _FRAME,
    "Series": _SERIES,
    "Index": _INDEX,
    "GroupBy": _GROUPS,
    "Window": _WINDOW,
    "StringMethods": _STR,
    "Properties": _DT,
    "CategoricalAccessor": _CAT,
    "Moment": _MOMENT,
    "Array": _ARRAY,
    "Generator": _words("""
        beta binomial choice exponential gamma geometric integers lognormal normal
        permutation permuted poisson random shuffle standard_normal triangular uniform
    """),
    "Row": _words("count index"),
    "Limits": _words("bits dtype eps max min precision resolution tiny"),
}

PANDAS: Final = _words("""
    Categorical CategoricalDtype DataFrame DateOffset DatetimeIndex Grouper Index
    IndexSlice Interval IntervalIndex MultiIndex NA NaT NamedAgg Period PeriodIndex
    RangeIndex Series Timedelta TimedeltaIndex Timestamp array bdate_range concat
    crosstab cut date_range factorize from_dummies get_dummies infer_freq interval_range
    isna isnull json_normalize lreshape melt merge merge_asof merge_ordered notna
    notnull period_range pivot pivot_table qcut timedelta_range to_datetime to_numeric
    to_timedelta unique wide_to_long
""")
NUMPY: Final = _words("""
    abs absolute add all allclose amax amin angle any append arange arccos arccosh
    arcsin arcsinh arctan arctan2 arctanh argmax argmin argpartition argsort argwhere
    around array array_equal array_split asarray atleast_1d atleast_2d average bincount
    bitwise_and bitwise_or bitwise_xor bool_ broadcast_to cbrt ceil choose clip
    column_stack concatenate conj convolve copy copysign corrcoef cos cosh count_nonzero
    cov cross cumprod cumsum datetime64 deg2rad degrees delete diag diagonal diff
    digitize divide divmod dot dsplit dstack e ediff1d equal exp exp2 expand_dims expm1
    extract eye fabs fill_diagonal fix flatnonzero flip fliplr flipud float16 float32
    float64 floor floor_divide fmax fmin fmod full full_like gcd geomspace gradient
    greater greater_equal heaviside histogram histogram2d hsplit hstack hypot identity
    iinfo in1d indices inf inner insert int16 int32 int64 int8 interp intersect1d invert
    isclose isfinite isin isinf isnan isreal kron lcm ldexp less less_equal linspace log
    log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor logspace
    matmul max maximum mean median meshgrid min minimum mod modf moveaxis multiply nan
    nan_to_num nanargmax nanargmin nancumsum nanmax nanmean nanmedian nanmin
    nanpercentile nanprod nanquantile nanstd nansum nanvar ndim negative newaxis nonzero
    not_equal ones ones_like outer partition percentile pi piecewise place poly1d
    polyfit polyval positive power prod ptp put quantile rad2deg radians ravel
    reciprocal remainder repeat reshape rint roll rollaxis rot90 round row_stack
    searchsorted select setdiff1d setxor1d shape sign signbit sin sinc sinh size sort
    split sqrt square squeeze stack std subtract sum swapaxes take take_along_axis tan
    tanh tensordot tile timedelta64 trace transpose trapezoid tri tril triu trim_zeros
    true_divide trunc uint16 uint32 uint64 uint8 union1d unique unwrap var vdot
    vectorize vsplit vstack where zeros zeros_like
""")
NUMPY_LINALG: Final = _words("""
    cholesky cond det eig eigh eigvals eigvalsh inv lstsq matrix_power matrix_rank norm
    pinv qr slogdet solve svd trace
""")
NUMPY_RANDOM: Final = _words("""
    beta binomial choice exponential gamma normal permutation poisson rand randint randn
    random random_sample seed shuffle standard_normal uniform
""")
