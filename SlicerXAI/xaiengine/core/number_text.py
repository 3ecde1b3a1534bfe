"""Numbers as people read them: two significant digits, and never rounded onto a bound that they do not reach."""

from __future__ import annotations

import math

MOST_DIGITS = 12


def significant(value: float, digits: int = 2) -> str:
    """A number with ``digits`` significant digits, never in powers of ten between 0.0001 and a million.

    Whole parts are not cut: 1234.5 is "1234" (rounded), not "1200".

    >>> significant(0.04567), significant(12.67), significant(1234.5), significant(-0.5), significant(3e-7)
    ('0.046', '13', '1234', '-0.50', '3.0e-07')
    """
    value = float(value)
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite" if value > 0 else "minus infinite"
    if value == 0:
        return "0"
    if abs(value) < 1e-4 or abs(value) >= 1e6:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)) + 1e-12))
    text = f"{value:.{decimals}f}"
    if decimals and len(text.lstrip("-").replace(".", "").lstrip("0")) > digits:  # 0.996 became 1.00
        text = f"{value:.{decimals - 1}f}"
    return text


def beside(value: float, bound: float | None, digits: int = 2) -> str:
    """A number in as many digits as it takes to see on which side of ``bound`` it lies; "=" only where it is on it.

    >>> beside(0.4996, 0.5), beside(0.5004, 0.5), beside(0.31, 0.5), beside(0.5, 0.5)
    ('0.4996', '0.5004', '0.31', '0.50')
    """
    text = significant(value, digits)
    if bound is None or value == bound or not math.isfinite(value):
        return text
    while digits < MOST_DIGITS and (float(text) > bound) != (value > bound) or float(text) == bound != value:
        digits += 1
        if digits > MOST_DIGITS:
            return repr(float(value))
        text = significant(value, digits)
    return text


def percent(share: float, digits: int = 2) -> str:
    """A share (0..1) in percent, with a space before the sign.

    >>> percent(0.106), percent(1.0), percent(0.65)
    ('11 %', '100 %', '65 %')
    """
    return f"{significant(100 * share, digits)} %"
