"""Short texts about films that a small model can learn, and loaders of them."""

import random

from layered.text.all import (
    BaseTokenizer,
    CategoryBlock,
    DataBlock,
    LMDataLoader,
    Numericalize,
    Pad_Chunk,
    RandomSplitter,
    SortedDL,
    Tokenizer,
    TransformBlock,
)

GOOD, BAD = ("good", "great", "fine"), ("bad", "dull", "poor")


def texts(count):
    """`count` sentences of 6 to 30 words, which praise every second film."""
    draw = random.Random(0)
    parts = ["the film is {}", "i think it was {}", "a really {} story", "the actors were {}", "what a {} end it has"]

    def sentence(i):
        words = GOOD if i % 2 else BAD
        return " and ".join(draw.choice(parts).format(draw.choice(words)) for _ in range(draw.randint(2, 5)))

    return [sentence(i) for i in range(count)]


def opinion(text):
    """What a sentence says of the film."""
    return "good" if any(word in text.split() for word in GOOD) else "bad"


def pipeline(vocab=None):
    return [Tokenizer(BaseTokenizer()), Numericalize(vocab, min_freq=1)]


def as_lm(items, bs=8, seq_len=10, **kwargs):
    block = DataBlock(TransformBlock(pipeline(), dl_type=LMDataLoader), splitter=RandomSplitter(0.2, seed=0))
    return block.dataloaders(items, bs=bs, seq_len=seq_len, device="cpu", num_workers=0, **kwargs)


def labelled(items, vocab=None, bs=8, seq_len=8, target=CategoryBlock, get_y=opinion, **kwargs):
    padding = {"before_batch": Pad_Chunk(seq_len=seq_len)}
    text = TransformBlock(pipeline(vocab), dl_type=SortedDL, dls_kwargs=padding)
    block = DataBlock((text, target), get_y=get_y, splitter=RandomSplitter(0.2, seed=0))
    return block.dataloaders(items, bs=bs, device="cpu", num_workers=0, **kwargs)
