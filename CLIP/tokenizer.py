"""Conversion of text to CLIP's token ids and back by byte pair encoding of UTF-8.

The method is that of Sennrich et al. 2015, arXiv 1508.07909.
"""

import gzip
import html
from functools import cache, lru_cache
from pathlib import Path

import ftfy
import regex

MERGES_FILE = Path(__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
MERGES = 48894
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"

# A word is a special token, an English contraction's tail, a run of letters, one digit, or a run of
# anything else that is not white space.
WORD = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'(?:s|t|re|ve|m|ll|d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)


@cache
def byte_to_symbol() -> dict[int, str]:
    """Map bytes that print in Latin-1 to themselves, then the others to U+0100, U+0101, ..."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in own]
    return {b: chr(b) for b in own} | {b: chr(0x100 + i) for i, b in enumerate(others)}


@cache
def merge_ranks() -> dict[tuple[str, str], int]:
    """Read the pairs of tokens that merge, and their ranks."""
    lines = gzip.decompress(MERGES_FILE.read_bytes()).decode("utf-8").split("\n")
    pairs = (line.split() for line in lines[1 : MERGES + 1])  # line 0 is a comment
    return {(left, right): rank for rank, (left, right) in enumerate(pairs)}


@cache
def vocabulary() -> dict[str, int]:
    """Map token to id: 256 bytes, 256 bytes that end a word, 48,894 merges, 2 special tokens."""
    symbols = list(byte_to_symbol().values())
    tokens = symbols + [s + WORD_END for s in symbols]
    tokens += ["".join(pair) for pair in merge_ranks()]
    return {token: i for i, token in enumerate([*tokens, START, END])}


def clean(text: str) -> str:
    """Mend mojibake, HTML entities (those escaped twice too), white space and case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return " ".join(text.split()).lower()


@lru_cache(maxsize=65536)
def merge(word: str) -> tuple[str, ...]:
    """Split a word of byte symbols into tokens, merging the adjacent pair of lowest rank first."""
    if word in (START, END):
        return (word,)
    ranks = merge_ranks()
    parts = [*word[:-1], word[-1] + WORD_END]
    while len(parts) > 1:
        best = min(zip(parts, parts[1:]), key=lambda pair: ranks.get(pair, MERGES))
        if best not in ranks:
            break
        merged, i = [], 0
        while i < len(parts):
            length = 2 if (*parts[i : i + 2],) == best else 1
            merged.append("".join(parts[i : i + length]))
            i += length
        parts = merged
    return tuple(parts)


def encode(text: str) -> list[int]:
    """Return the token ids of a text, without the start and end tokens of `clip.tokenize`."""
    ids, symbols = vocabulary(), byte_to_symbol()
    words = (
        "".join(symbols[b] for b in word.encode("utf-8")) for word in WORD.findall(clean(text))
    )
    return [ids[token] for word in words for token in merge(word)]


def decode(ids: list[int]) -> str:
    """Return the cleaned text of token ids; incomplete characters become U+FFFD."""
    tokens = list(vocabulary())
    symbol_to_byte = {symbol: byte for byte, symbol in byte_to_symbol().items()} | {" ": 0x20}
    symbols = "".join(tokens[i] for i in ids).replace(WORD_END, " ")
    return bytes(symbol_to_byte[s] for s in symbols).decode("utf-8", errors="replace").strip()
