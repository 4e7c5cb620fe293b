"""Text to CLIP's token ids: byte-level byte pair encoding (Sennrich et al., arXiv 1508.07909)."""

import gzip
import html
from functools import cache, lru_cache
from pathlib import Path

import ftfy
import regex

MERGES_FILE = Path(__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
MERGES = 48894
START, END = "<|startoftext|>", "<|endoftext|>"

# A word is a special token, an English contraction's tail, a run of letters, one digit, or a run of
# anything else that is not white space.
WORD = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'(?:s|t|re|ve|m|ll|d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)


def byte_symbols() -> list[str]:
    """One printable character for each of the 256 bytes, in the order of the vocabulary.

    Bytes that print as themselves in Latin-1 come first; the others follow as U+0100, U+0101, ...
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(b) for b in printable] + [chr(0x100 + i) for i in range(256 - len(printable))]


@cache
def byte_to_symbol() -> dict[int, str]:
    symbols = byte_symbols()
    own = {ord(s): s for s in symbols if ord(s) < 0x100}
    others = iter(s for s in symbols if ord(s) >= 0x100)
    return {b: own[b] if b in own else next(others) for b in range(256)}


@cache
def merge_ranks() -> dict[tuple[str, str], int]:
    lines = gzip.decompress(MERGES_FILE.read_bytes()).decode("utf-8").split("\n")
    pairs = (line.split() for line in lines[1 : MERGES + 1])  # line 0 is a comment
    return {(left, right): rank for rank, (left, right) in enumerate(pairs)}


@cache
def vocabulary() -> dict[str, int]:
    """Token to id: 256 bytes, 256 bytes that end a word, 48,894 merges, the two special tokens."""
    symbols = byte_symbols()
    tokens = symbols + [s + "</w>" for s in symbols]
    tokens += ["".join(pair) for pair in merge_ranks()]
    return {token: i for i, token in enumerate([*tokens, START, END])}


def clean(text: str) -> str:
    """Mends mojibake, HTML entities (twice escaped ones too), white space and case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return " ".join(text.split()).lower()


@lru_cache(maxsize=65536)
def merge(word: str) -> tuple[str, ...]:
    """A word of byte symbols to its tokens: the adjacent pair of the lowest rank merges first."""
    if word in (START, END):
        return (word,)
    ranks = merge_ranks()
    parts = [*word[:-1], word[-1] + "</w>"]
    while len(parts) > 1:
        best = min(zip(parts, parts[1:]), key=lambda pair: ranks.get(pair, MERGES))
        if best not in ranks:
            break
        merged, i = [], 0
        while i < len(parts):
            if i + 1 < len(parts) and (parts[i], parts[i + 1]) == best:
                merged.append(parts[i] + parts[i + 1])
                i += 2
            else:
                merged.append(parts[i])
                i += 1
        parts = merged
    return tuple(parts)


def words(text: str) -> list[str]:
    """The words of a cleaned text, in order."""
    found: list[str] = WORD.findall(clean(text))
    return found


def encode_word(word: str) -> list[int]:
    vocab = vocabulary()
    if word in (START, END):
        return [vocab[word]]
    symbols = "".join(byte_to_symbol()[b] for b in word.encode("utf-8"))
    return [vocab[token] for token in merge(symbols)]


def encode(text: str) -> list[int]:
    """The token ids of a text, without the start and end tokens that `clip.tokenize` adds."""
    return [i for word in words(text) for i in encode_word(word)]


def decode(ids: list[int]) -> str:
    """The cleaned text of token ids; bytes that are no whole character become U+FFFD."""
    tokens = list(vocabulary())
    symbol_to_byte = {symbol: byte for byte, symbol in byte_to_symbol().items()}
    symbols = "".join(tokens[i] for i in ids).replace("</w>", " ")
    data = b"".join(b" " if s == " " else bytes([symbol_to_byte[s]]) for s in symbols)
    return data.decode("utf-8", errors="replace").strip()
