"""What the library reads of texts that others write: sound files of each kind, hostile ones, and how each is read."""

import io
import json
import struct

import pandas as pd
import torch
from data_mutants import ODD, whole
from mutants import OURS, in_zip, injured, rezipped

from layered.text.all import (
    AWD_LSTM,
    BaseTokenizer,
    HuggingFaceTokenizer,
    SentencePieceTokenizer,
    TextDataLoaders,
    language_model_learner,
    load_learner,
    text_classifier_learner,
)

FILMS = ["the film is good and great", "a dull story", "i think it was fine", "the actors were poor and bad"] * 8
TOKENIZER = {
    "version": "1.0", "truncation": None, "padding": None, "normalizer": {"type": "Lowercase"},
    "added_tokens": [
        {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    ],
    "pre_tokenizer": {"type": "Whitespace"}, "decoder": None,
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}},
    },
    "model": {
        "type": "WordLevel", "unk_token": "[UNK]",
        "vocab": {t: i for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(set(" ".join(FILMS).split()))])},
    },
}  # fmt: skip
SMALL = {"emb_sz": 12, "n_hid": 16, "n_layers": 1}


def text_learner(tok, folder):
    frame = pd.DataFrame({"text": FILMS, "label": list("yn") * 16})
    dls = TextDataLoaders.from_df(
        frame, text_col="text", label_col="label", tok_tfm=tok, bs=8, seq_len=8, num_workers=0, device="cpu"
    )
    return text_classifier_learner(dls, AWD_LSTM, seq_len=8, config=SMALL, pretrained=False, path=folder)


def language_learner(folder):
    dls = TextDataLoaders.from_df(
        pd.DataFrame({"text": FILMS}), text_col="text", is_lm=True, tok_tfm=BaseTokenizer(), bs=4, seq_len=6,
        num_workers=0, device="cpu",
    )  # fmt: skip
    return language_model_learner(dls, AWD_LSTM, config=SMALL, pretrained=False, path=folder)


def good_texts(folder):
    """The bytes of a sound file of every kind, and the learner whose weights and words they are."""
    torch.manual_seed(0)
    beside = folder / "mutant tokenizer"
    beside.mkdir()
    (beside / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    learn, spm = language_learner(folder), SentencePieceTokenizer(vocab_sz=40)
    spm.setup(FILMS)
    weights = io.BytesIO()
    torch.save(learn.model.state_dict(), weights)
    files = {
        "language model": learn.export(folder / "lm.layered").read_bytes(),
        "classifier of texts": text_learner(BaseTokenizer(), folder).export(folder / "clas.layered").read_bytes(),
        "export with tokenizer.json": text_learner(HuggingFaceTokenizer(json.dumps(TOKENIZER)), folder)
        .export(folder / "hf.layered")
        .read_bytes(),
        "export with SentencePiece": text_learner(spm, folder).export(folder / "spm.layered").read_bytes(),
        "encoder": learn.save_encoder(folder / "encoder").read_bytes(),
        "weights of a language model": weights.getvalue(),
        "words of a language model": json.dumps(learn.dls.vocab).encode(),
        "tokenizer.json": json.dumps(TOKENIZER).encode(),
        "settings of a tokenizer": json.dumps({"pad_token": {"content": "[PAD]"}, "unk_token": "[UNK]"}).encode(),
        "SentencePiece model": spm.model,
    }
    return learn, files


def predict(file):
    learn = load_learner(file)
    learn.predict("the film is great")
    learn.dls.vocab


def go_on(file):
    learn = load_learner(file)
    learn.predict("the film", 2, seed=0)


def tokenize(tok):
    text = tok(FILMS[0])
    tok.decode(text), tok.pad_idx, tok.vocab, repr(tok)


def tokenize_beside(file):
    tokenize(HuggingFaceTokenizer(file.parent))


def divide(file):
    tok = SentencePieceTokenizer(sp_model=file)
    tok.tokenize(FILMS[0]), tok.tokenize("")


def text_readers(learn):
    weights, words = learn.path / "sound.pth", learn.path / "sound.json"
    torch.save(learn.model.state_dict(), weights)
    words.write_text(json.dumps(learn.dls.vocab))
    return {
        "language model": (go_on, ".layered"),
        "classifier of texts": (predict, ".layered"),
        "export with tokenizer.json": (predict, ".layered"),
        "export with SentencePiece": (predict, ".layered"),
        "encoder": (learn.load_encoder, ".layered"),
        "weights of a language model": (lambda file: learn.load_pretrained(file, words), ".pth"),
        "words of a language model": (lambda file: learn.load_pretrained(weights, file), ".json"),
        "tokenizer.json": (lambda file: tokenize(HuggingFaceTokenizer(file)), ".json"),
        "settings of a tokenizer": (tokenize_beside, " tokenizer/tokenizer_config.json"),
        "SentencePiece model": (divide, ".model"),
    }


def reshaped(raw, draw):
    """Weights of a language model of which some have another shape, type or name, or are no tensors."""
    weights = torch.load(io.BytesIO(raw), weights_only=True)
    names = ["0.encoder.weight", *weights]
    for _ in range(draw.choice((1, 1, 3))):
        name = draw.choice(names)
        x = weights.pop(name, torch.ones(2, 2))
        match draw.randrange(8):
            case 0:
                weights[name] = torch.tensor(1.0)
            case 1:
                weights[name] = x.to(draw.choice((torch.int64, torch.bool, torch.float16, torch.complex64)))
            case 2:
                weights[name] = x[:0]
            case 3:
                weights[name] = torch.ones(()).expand(2**40, 2)
                break
            case 4:
                weights[name] = x.to_sparse()
            case 5:
                weights[name] = draw.choice([None, 1.0, "x", [x], {"a": x}])
            case 6:
                weights[draw.choice(("", "module." * 500, f"{name}_raw", f"0.module.{name}"))] = x
    file = io.BytesIO()
    torch.save(weights, file)
    return file.getvalue()


def other_words(raw, draw):
    words = json.loads(raw)
    for _ in range(draw.choice((1, 3))):
        words[draw.randrange(len(words))] = draw.choice([*ODD, *words])
    return json.dumps(words[: draw.choice((None, None, 3))] * draw.choice((1, 1, 2))).encode("utf-8", "surrogatepass")


PARTS = {
    "normalizer": [
        {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "x" * 10**6},
        {"type": "Replace", "pattern": {"Regex": "("}, "content": ""},
        {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
        {"type": "Sequence", "normalizers": [{"type": "NFKC"}] * 1000},
        {"type": "Prepend", "prepend": "x" * 10**6},
    ],
    "pre_tokenizer": [
        {"type": "Split", "pattern": {"Regex": "(?=)"}, "behavior": "Isolated", "invert": False},
        {"type": "Split", "pattern": {"String": ""}, "behavior": "Removed", "invert": True},
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        {"type": "Metaspace", "replacement": "", "prepend_scheme": "always", "split": True},
    ],
    "truncation": [{"direction": "Right", "max_length": n, "strategy": "LongestFirst", "stride": m}
                   for n in (0, 1, 2**63) for m in (0, 1, 2**63)],
    "padding": [{"strategy": {"Fixed": n}, "direction": "Left", "pad_to_multiple_of": m, "pad_id": 2**32 - 1,
                 "pad_type_id": 0, "pad_token": "x"} for n in (0, 10**6, 2**63) for m in (None, 0, 7)],
    "post_processor": [
        {"type": "BertProcessing", "sep": ["x", 2**32 - 1], "cls": ["y", 2**31]},
        {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}},
        {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x", "type_id": 0}}] * 3, "pair": [],
         "special_tokens": {}},
        {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B", "type_id": 2**32 - 1}}] * 2, "pair": [],
         "special_tokens": {}},
    ],
    "decoder": [{"type": "WordPiece", "prefix": "", "cleanup": True}, {"type": "CTC", "pad_token": "", "word_delimiter_token": "",
                "cleanup": True}, {"type": "Strip", "content": "a", "start": 2**40, "stop": 2**40}],
    "model": [
        {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]},
        {"type": "BPE", "vocab": {"a": 2**32 - 1, "aa": 1}, "merges": ["a a"], "unk_token": "nothing", "fuse_unk": True},
        {"type": "WordPiece", "vocab": {}, "unk_token": "x", "continuing_subword_prefix": "", "max_input_chars_per_word": 0},
        {"type": "Unigram", "unk_id": 5, "vocab": [["a", -1.0]], "byte_fallback": True},
        {"type": "Unigram", "unk_id": 0, "vocab": [["", float("-inf")]] * 3, "byte_fallback": False},
        {"type": "WordLevel", "vocab": {"[UNK]": 2**32 - 1}, "unk_token": "[UNK]"},
        {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "missing"},
    ],
    "added_tokens": [
        [{"id": n, "content": token, "single_word": False, "lstrip": True, "rstrip": True, "normalized": True, "special": True}]
        for n in (0, 10**6, 2**32 - 1) for token in ("", "x", "the", "x" * 10**6)
    ],
}  # fmt: skip


def remade(raw, draw):
    """A tokenizer.json with parts that are other ones, or make no sense together."""
    said = json.loads(raw)
    for _ in range(draw.choice((1, 2))):
        part = draw.choice(list(PARTS))
        said[part] = draw.choice(PARTS[part])
    return json.dumps(said).encode()


def field(number, kind, payload):
    """A field of a protocol buffer."""
    head = bytes([number << 3 | kind])
    return head + (bytes([len(payload)]) + payload if kind == 2 and len(payload) < 128 else payload)


def of_pieces(raw, draw):
    """A SentencePiece model of any pieces, with settings that make no sense, or a table of characters at random."""
    pieces = draw.choice(([b"<unk>", b"a"], [b""], [b"a", b"a"], [b"\xff"], [b"a" * 100], []))
    score = struct.pack("<f", draw.choice((0.0, float("nan"), float("inf"), -1e38)))
    body = b"".join(
        field(1, 2, field(1, 2, piece) + field(2, 5, score) + field(3, 0, bytes([draw.randrange(8)])))
        for piece in pieces
    )
    trainer = b"".join(field(3, 0, bytes([draw.randrange(6)])) for _ in range(draw.randrange(3)))
    charsmap = struct.pack("<I", draw.choice((0, 4, 8, 2**31, 2**32 - 1))) + draw.randbytes(draw.choice((0, 4, 64)))
    return body + field(2, 2, trainer) + field(3, 2, field(2, 2, charsmap)) + draw.choice((b"", raw))


TEXT_CHANGES = {
    "language model": OURS,
    "classifier of texts": OURS,
    "export with tokenizer.json": OURS,
    "export with SentencePiece": OURS,
    "encoder": OURS,
    "weights of a language model": (injured, in_zip, rezipped, reshaped, reshaped),
    "words of a language model": (injured, other_words),
    "tokenizer.json": (injured, whole, remade, remade, remade),
    "settings of a tokenizer": (injured, whole),
    "SentencePiece model": (injured, injured, of_pieces),
}
