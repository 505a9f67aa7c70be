"""Text to ids and back: a byte-level BPE tokenizer, loaded or built.

Added tokens (such as <|im_end|>) are parsed only where the caller says that the
text is markup, so that no record can smuggle one in. It knows no chat template
and never touches the network.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import functools
import json
import pathlib

import tokenizers
from tokenizers import decoders
from tokenizers import models
from tokenizers import pre_tokenizers
from tokenizers import trainers
import transformers

from medrl import lookup

# How Qwen2 cuts text into pieces, before merging bytes within each.
PIECES = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def _alphabet() -> dict[str, int]:
  """Character -> byte, as byte-level BPE writes bytes (Radford et al. 2019)."""
  shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
  hidden = [b for b in range(256) if b not in shown]
  return {**{chr(b): b for b in shown},
          **{chr(256 + i): b for i, b in enumerate(hidden)}}


BYTES = _alphabet()


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
  """A vocabulary with its added tokens; use `load` or `build` to get one.

  `full` parses added tokens and `plain` knows none of them; `skipped` are the
  ids that `decode` leaves out; `size` is the largest id + 1.
  """
  full: tokenizers.Tokenizer
  plain: tokenizers.Tokenizer
  skipped: frozenset[int]
  size: int

  def id(self, token: str) -> int:
    """The id of one token; raises ValueError where there is none."""
    found = self.full.token_to_id(token)
    if found is None:
      added = [t.content for t in self.full.get_added_tokens_decoder().values()]
      raise ValueError(f'the tokenizer has no token {token!r}; '
                       f'{lookup.nearest(token, sorted(added))}')
    return found

  def encode(self, text: str, specials: bool = False) -> list[int]:
    """Ids of `text`.

    Args:
      text: any text; raises ValueError on a lone surrogate.
      specials: whether added tokens spelt out in it become those tokens. Never
        for text that comes from a record.
    """
    text.encode()  # a lone surrogate is named here, not deep in the tokenizer
    return list(_ids(self.full if specials else self.plain, text))

  def decode(self, ids: Sequence[int]) -> str:
    """The text of `ids` without special tokens; bad UTF-8 gives U+FFFD.

    Ids that no token has (rows that pad a model's vocabulary) give nothing.
    """
    return b''.join(map(self._piece, ids)).decode(errors='replace')

  def spans(self, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """`decode(ids)` and for each id its characters there, (start, end).

    A token that holds a part of a character has the whole of it; a token
    without text has an empty range.
    """
    pieces = [self._piece(i) for i in ids]
    text, owner = _owners(b''.join(pieces))
    spans, at = [], 0
    for piece in pieces:
      start = owner[at] if at < len(owner) else len(text)
      at += len(piece)
      spans.append((start, owner[at - 1] + 1 if piece else start))
    return text, spans

  def pieces(self) -> tuple[str, ...]:
    """The text of every id by itself, '' where it has none.

    Bytes that are no text are surrogates ('surrogateescape'), so that joined
    pieces can be turned back into bytes.
    """
    return tuple(b.decode(errors='surrogateescape') for b in self.token_bytes())

  def token_bytes(self) -> tuple[bytes, ...]:
    """The bytes of every id, b'' where `decode` shows nothing of it."""
    return tuple(map(self._piece, range(self.size)))

  def _piece(self, id_: int) -> bytes:
    token = None if id_ in self.skipped else self.full.id_to_token(int(id_))
    if token is None:
      return b''
    if all(c in BYTES for c in token):
      return bytes(BYTES[c] for c in token)
    return token.encode()  # an added token is stored as it reads


# Templates and their questions come again with every record.
@functools.lru_cache(maxsize=4096)
def _ids(backend: tokenizers.Tokenizer, text: str) -> tuple[int, ...]:
  return tuple(backend.encode(text, add_special_tokens=False).ids)


def _owners(data: bytes) -> tuple[str, list[int]]:
  """The decoded bytes and, for each byte, the index of its character.

  Bytes that the decoder rejects together become one U+FFFD, as in
  `bytes.decode(errors='replace')`.
  """
  text, owner, at = '', [], 0
  while at < len(data):
    try:
      good, bad = data[at:].decode(), 0
    except UnicodeDecodeError as error:
      good, bad = data[at:at + error.start].decode(), error.end - error.start
    widths = [len(character.encode()) for character in good]
    if bad:
      good, widths = good + '\ufffd', [*widths, bad]
    for k, width in enumerate(widths, start=len(text)):
      owner += [k] * width
    text += good
    at += sum(widths)
  return text, owner


def load(folder: str | pathlib.Path) -> Tokenizer:
  """The tokenizer of a local checkpoint folder.

  Raises:
    FileNotFoundError: the folder or a needed file is absent.
    ValueError: it is not a byte-level BPE.
  """
  folder = pathlib.Path(folder)
  present = {f.name for f in folder.iterdir()} if folder.is_dir() else set()
  if 'tokenizer_config.json' not in present or not (
      'tokenizer.json' in present or {'vocab.json', 'merges.txt'} <= present):
    raise FileNotFoundError(
        f'no tokenizer in {str(folder)!r}: it needs tokenizer_config.json and '
        f'either tokenizer.json or both vocab.json and merges.txt; it has '
        f'{sorted(present) or "nothing"}')
  # Only the standard class: code that lies in the folder is never run.
  loaded = transformers.AutoTokenizer.from_pretrained(
      str(folder), local_files_only=True, trust_remote_code=False)
  if not loaded.is_fast:
    raise ValueError(f'{str(folder)!r} holds {type(loaded).__name__}, which is '
                     f'not a fast tokenizer; save it with tokenizer.json')
  text = loaded.backend_tokenizer.to_str()
  state = json.loads(text)
  if not isinstance(state['decoder'], dict) or (
      state['decoder']['type'] != 'ByteLevel'):
    raise ValueError(f'{str(folder)!r} has the decoder {state["decoder"]}; '
                     f'expected a byte-level BPE (type ByteLevel)')
  skipped = frozenset(t['id'] for t in state['added_tokens'] if t['special'])
  bare = json.dumps({**state, 'added_tokens': [], 'post_processor': None})
  full = tokenizers.Tokenizer.from_str(text)
  return Tokenizer(full=full, plain=tokenizers.Tokenizer.from_str(bare),
                   skipped=skipped, size=max(full.get_vocab().values()) + 1)


def build(corpus: Iterable[str], specials: Sequence[str], vocab_size: int,
          folder: str | pathlib.Path) -> Tokenizer:
  """Learns a byte-level BPE from `corpus`, writes it and loads it.

  Args:
    corpus: texts; the same texts always give the same vocabulary.
    specials: special tokens, which get the last ids in this order.
    vocab_size: most tokens to have, with the 256 bytes and `specials`; a small
      corpus gives fewer, so size a model by `Tokenizer.size`.
    folder: where tokenizer.json and tokenizer_config.json go.

  Raises:
    ValueError: `vocab_size` does not hold the bytes and `specials`.
  """
  least = 256 + len(specials)
  if vocab_size < least:
    raise ValueError(f'vocab_size {vocab_size} is below {least}: 256 bytes and '
                     f'{len(specials)} special tokens')
  learned = tokenizers.Tokenizer(models.BPE())
  learned.pre_tokenizer = pre_tokenizers.Sequence([
      pre_tokenizers.Split(tokenizers.Regex(PIECES), 'isolated'),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
  learned.decoder = decoders.ByteLevel()
  learned.train_from_iterator(corpus, trainers.BpeTrainer(
      vocab_size=vocab_size - len(specials), show_progress=False,
      initial_alphabet=sorted(BYTES)))
  learned.add_special_tokens(list(specials))
  transformers.PreTrainedTokenizerFast(
      tokenizer_object=learned).save_pretrained(str(folder))
  return load(folder)
