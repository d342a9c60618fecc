"""Figures as people read them, by the units of panels. Pure."""

import math
from datetime import UTC, datetime

from subterra_core.monitoring.grafana import Unit

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_PERIODS = ((86400, "d"), (3600, "h"), (60, "min"))
_CENT, _DIME = 0.01, 0.1
_SHORT_SECONDS = 600
"""An axis this short would have the same minute twice."""


def figure(value: float, unit: Unit, infinite: str = "", now: float = 0) -> str:
    """A value with its unit; `infinite` stands for infinity, `now` is for moments."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return infinite or ("∞" if value > 0 else "−∞")
    match unit:
        case "currencyUSD":
            return f"${value:,.2f}" if abs(value) >= _DIME or value == 0 else f"${_significant(value)}"
        case "percentunit":
            return f"{_significant(100 * value)} %"
        case "s":
            return _duration(value)
        case "dateTimeFromNow":
            return f"{_duration(abs(now - value))} {'ago' if value <= now else 'from now'}"
        case "reqps" | "tokens":
            return f"{_short(value)}/s"
        case "bytes":
            return f"{_short(value)}B"
        case _:
            return _short(value)


def axis_figure(value: float, unit: Unit) -> str:
    """A value on an axis, whose margin is too narrow for large amounts with their cents."""
    return f"${_short(value)}" if unit == "currencyUSD" and abs(value) >= _PREFIXES[-1][0] else figure(value, unit)


def clock(seconds: float, span: float) -> str:
    """A moment in UTC, as precise as an axis of `span` seconds needs."""
    known = "%H:%M:%S" if span <= _SHORT_SECONDS else "%H:%M" if span <= 2 * _PERIODS[0][0] else "%d %b"
    return datetime.fromtimestamp(seconds, UTC).strftime(known)


def moment(seconds: float) -> str:
    """A moment in UTC, to the minute."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _significant(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _short(value: float) -> str:
    for size, prefix in _PREFIXES:
        if abs(value) >= size:
            return f"{_significant(value / size)} {prefix}"
    return _significant(value)


def _duration(seconds: float) -> str:
    for size, name in _PERIODS:
        if abs(seconds) >= size:
            return f"{_significant(seconds / size)} {name}"
    if 0 < abs(seconds) < _CENT:
        return f"{_significant(1000 * seconds)} ms"
    return f"{_significant(seconds)} s"
