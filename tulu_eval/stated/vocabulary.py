"""The words around a number that :mod:`tulu_eval.stated.reader` knows; it takes every other word for a noun."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FILLERS = _words(
    "approximately approx about around roughly exactly precisely nearly almost just only simply therefore thus then hence "
    "now indeed also clearly obviously actually definitely certainly probably likely finally really an still equal equals "
    "to given by a total of the as follows following below be number value amount"
)
"""Words between "answer is" and the number that do not change it."""

DOTTED = _words("approx ca rs re")
"""Words before the number that may end in a full stop."""

RUPEES = _words("₹ rs inr")
CURRENCIES = _words("usd eur gbp inr jpy cny cad aud nzd chf us rs")
"""Names of currencies that may precede the number."""

MONEY = _words("dollar dollars usd euro euros pound pounds")
"""Units whose hundredths may follow: "18 dollars and 50 cents"."""

HUNDREDTHS = _words("cent cents penny pence")

MULTIPLIERS = {
    "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "lakh": 10**5, "lakhs": 10**5,
    "crore": 10**7, "crores": 10**7, "bn": 10**9, "mn": 10**6,
}  # fmt: skip
SUFFIXES = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9}
"""Multipliers by letter, directly after the number without a space."""

NUMBERS = _words(
    "zero two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion trillion"
)
"""Words that count as numbers; "one" is not among them, because it is also a pronoun ("18 for each one")."""

REFUSED = _words(
    "dozen dozens half halves third thirds quarter quarters fifth fifths sixth sixths eighth eighths tenth tenths "
    "hundredth hundredths thousandth thousandths hundreds thousands millions billions gross score squared cubed factorial "
    "plus minus doubled tripled halved twice divided multiplied modulo mod choose point am pm o'clock mil mille tausend "
    "recurring repeating power wrong incorrect false i e pi x y z n"
)
"""Words after the number that make it another number, a time of day, or a formula."""

OPEN_ENDED = _words("up over above more beyond below under counting")
"""Words after "and" that make the number a bound: "18 and up"."""

REFUSED_FIRST = _words(
    "is are was were equals noon midnight bc ad bce ce january february march april may june july august september october "
    "november december jan feb mar apr jun jul aug sep sept oct nov dec"
)
"""Words right after the number that comment on it instead of stating it ("18 is too many"), or make it a date."""

TIMES_OF_DAY = _words("morning afternoon evening")
"""Words after a number and "in the" that make it a time of day."""

RATES = _words("a per each every as more in larger bigger faster longer")
"""Words that may follow "3 times"; before any other word, "times" is a multiplication ("3 times the price")."""

REFUSED_LEFT = _words("or and not if")
"""Words before ``=`` that make several equations, or none."""

ORDINALS = _words("st nd rd th ths")
LETTERS = _words("a g h l m s t c p A C F L V W J N")
"""Single letters that are units or the article "a"."""

UNITS = _words(
    "g kg mg lb lbs oz t m km cm mm mi ft in yd l ml cl h hr hrs min mins sec secs ms c f w kw kwh v j n mph kph kmh usd "
    "eur gbp inr cad aud sq µm μm ωs pts px gb mb tb kb day days"
)
"""Units that may follow the number without a space, or are not ASCII."""

TIMES = _words("second seconds minute minutes hour hours day days week weeks month months year years decade decades")
"""Units of time, as in "in 7 days"."""

ABBREVIATIONS = _words("approx ca ft in lb lbs oz hr hrs min mins sec secs yd yds mi sq cu vs e.g i.e dr mr mrs ms st rs no")
"""Words after which a full stop does not end the sentence."""

BREAKS = _words(
    "because since which as that who where so but when if given considering obtained calculated leaving not meaning"
)
"""Words that end the number's clause."""

EXPLAINS = _words("because since which as that who where given considering obtained calculated leaving not meaning")
"""Words that start a clause whose numbers are not the answer."""

DOUBTFUL = _words(
    "or about around roughly nearly total altogether combined actually wait no rather instead should correct correction but"
)
"""Words that, in a clause with other numbers, may make one of these the answer."""
