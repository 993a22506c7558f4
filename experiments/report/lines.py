"""How lines that are compared are told apart: by colour, and by style where colours run out."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
"""Of Okabe and Ito, distinct for all common kinds of colour blindness."""
STYLES = ("-", "--", ":", "-.")
"""In the first, second, ... round of colours."""


def look(place: int) -> tuple[str, str]:
    """Colour and style of the line at a place."""
    return COLOURS[place % len(COLOURS)], STYLES[place // len(COLOURS) % len(STYLES)]
