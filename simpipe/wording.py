"""Numbers as people read them, on the terminal and on the page."""

ROUNDING = 1e-6
"""A share that is nearer to 0 or 1 than this is just that: sums of float32 are so far off."""


def figure(share: float, digits: int = 1) -> str:
    """A share in [0, 1] in percent, `91.8`. Only all is 100 and only nothing is 0: 0.9996 is `> 99.9`."""
    shown, least = f"{100 * share:.{digits}f}", 10.0**-digits
    if share < 1 - ROUNDING and float(shown) == 100:
        return f"> {100 - least:.{digits}f}"
    if share > ROUNDING and float(shown) == 0:
        return f"< {least:.{digits}f}"
    return shown


def count(number_of: int, noun: str, plural: str = "") -> str:
    """`1 image`, `2,000 images`."""
    return f"{number_of:,} {noun if number_of == 1 else plural or noun + 's'}"
