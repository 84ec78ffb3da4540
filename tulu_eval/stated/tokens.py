"""Normalises a statement's characters and splits them into tokens: numbers, words, signs, LaTeX commands, ends of lines."""

from __future__ import annotations

import dataclasses
import re
import unicodedata

OPENING_LATEX = frozenset((
    r"\boxed", r"\fbox", r"\text", r"\textbf", r"\textit", r"\textrm", r"\mathrm", r"\mathbf", r"\mathit", r"\mathsf", r"\mbox",
    r"\underline", r"\emph", r"\operatorname", r"\displaystyle",
))  # fmt: skip
"""Commands that change the look of their argument, not its meaning."""

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_LATEX_NAMES = {
    r"\times": "×", r"\cdot": "×", r"\div": "÷", r"\approx": "≈", r"\simeq": "≈", r"\sim": "≈", r"\%": "%", r"\$": "$",
    r"\textdollar": "$", r"\pounds": "£", r"\euro": "€", r"\cent": "¢", r"\degree": "°", r"\circ": "°", r"\to": "→",
    r"\rightarrow": "→", r"\implies": "→", r"\Rightarrow": "→", r"\,": " ", r"\;": " ", r"\:": " ", r"\!": " ", r"\ ": " ",
    r"\quad": " ", r"\qquad": " ",
}  # fmt: skip
_SIGNS = {
    "−": "-", "–": "-", "‒": "-", "‐": "-", "‑": "-", "⁄": "/", "∕": "/", "÷": "÷", "·": "×", "⋅": "×", "∙": "×", "✕": "×",
    "∗": "*", "‘": "'", "’": "'", "′": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "「": '"', "」": '"', "″": '"',
    "٫": ".", "٬": ",", "،": ",", "。": ".", "≃": "≈", "≅": "≈", "∼": "≈", "⇒": "→", "⟹": "→",
}  # fmt: skip


class _Plain(dict[int, str]):
    """Maps a character to its plain form; each is computed once and cached."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        plain = _SIGNS.get(letter) or _plain(letter)
        self[code] = plain
        return plain


def _plain(letter: str) -> str:
    if letter.isdecimal():
        return str(unicodedata.decimal(letter))
    kind, form = unicodedata.category(letter), unicodedata.normalize("NFKC", letter)
    if kind == "Cf":
        return ""  # invisible, e.g. the zero-width space
    if kind == "No":
        return " " + form.replace("⁄", "/") if "⁄" in form and form[0].isdecimal() else letter  # "1½" is "1 1/2"
    return form if len(form) == 1 and form.isascii() else letter


_PLAIN = _Plain()


def plain(text: str) -> str:
    """Returns a text with digits of all scripts, full-width forms, signs, quotes and spaces converted to ASCII.

    White space within a line becomes one space. Superscript digits become ``^{…}``.
    """
    if not text.isascii():  # ASCII is plain
        text = _RAISED.sub(lambda found: f"^{{{found[0].translate(_SUPERSCRIPTS)}}}", text).translate(_PLAIN)
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """A piece of a statement.

    Attributes:
        kind: ``number``, ``word``, ``latex``, ``sign`` (the text is the sign itself) or ``line`` (the end of a line).
        text: The token's text; a LaTeX command for a sign becomes that sign.
        glued: Whether no space separates it from the previous token.
        end: Offset of its end in the text.
    """

    kind: str
    text: str
    glued: bool
    end: int


_TOKEN = re.compile(
    r"(?P<number>(?:\d|\.(?=\d))(?:\d|(?:[.,'_]|\{,\}|,?\\[,;:! ] ?|~)(?=\d))*+(?:[eE][+-]?\d+(?!\w))?)"
    r"|(?P<word>[^\W\d_]+(?:'[^\W\d_]+)*+)"
    r"|(?P<latex>\\[A-Za-z]++|\\[^\n])"
    r"|(?P<line>\n)"
    r"|(?P<space> )"
    r"|(?P<sign>=>|->|-{2,3}|==|<=|>=|!=|\*\*|.)"
)
_MARKUP = re.compile(r"</?[A-Za-z]{1,12}>|<<[^<>\n]{0,100}>>|\\(?:left|right)(?![A-Za-z])")
"""Tags such as ``<answer>``, GSM8K's calculator annotations such as ``<<2*3=6>>``, and LaTeX's bracket sizes."""


def tokenize(text: str) -> list[Token]:
    """Returns the tokens of a :func:`plain` text without its markup and without spaces between digit groups."""
    tokens: list[Token] = []
    glued = False
    blank = _MARKUP.sub(lambda found: "\x00" * len(found[0]), text)  # positions stay
    for found in _TOKEN.finditer(blank):
        kind, piece = str(found.lastgroup), found[0]
        if piece == "\x00":
            continue
        if kind == "latex" and piece in _LATEX_NAMES:
            piece = _LATEX_NAMES[piece]
            kind = "space" if piece == " " else "sign"
        if kind == "space":
            glued = False
            continue
        token = Token(kind, piece, glued and bool(tokens), found.end())
        if kind == "number" and tokens and _continues(tokens[-1], token, text):
            before = tokens.pop()
            token = dataclasses.replace(token, text=f"{before.text}\\,{piece}", glued=before.glued)
        tokens.append(token)
        glued = True
    return tokens


def _continues(before: Token, token: Token, text: str) -> bool:
    """Whether a token continues the last number, as ``000`` in ``12 000``: one space, three digits, no other separator."""
    head = before.text.replace(r"\,", "")
    groups = token.text.partition(".")[0]
    return (
        before.kind == "number"
        and not token.glued
        and text[before.end : token.end - len(token.text)] == " "
        and head.isdecimal()
        and (len(head) <= 3 or r"\," in before.text)
        and len(groups) == 3
        and groups.isdecimal()
    )
