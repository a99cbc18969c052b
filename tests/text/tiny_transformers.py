"""Models of transformers so small that a test trains them, beside tokenizers of the words of `reviews`."""

import torch
import transformers
from reviews import opinion, texts
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from layered.text.all import CategoryBlock, DataBlock, RandomSplitter, TextBlock

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
KINDS = {
    "bert": lambda v: transformers.BertConfig(vocab_size=v, max_position_embeddings=40, **SIZES),
    "distilbert": lambda v: transformers.DistilBertConfig(
        vocab_size=v, max_position_embeddings=40, dim=32, hidden_dim=48, n_layers=2, n_heads=2
    ),
    "roberta": lambda v: transformers.RobertaConfig(vocab_size=v, max_position_embeddings=42, pad_token_id=1, **SIZES),
    "albert": lambda v: transformers.AlbertConfig(
        vocab_size=v, max_position_embeddings=40, embedding_size=16, bos_token_id=1, eos_token_id=2, **SIZES
    ),
    "gpt2": lambda v: transformers.GPT2Config(
        vocab_size=v, n_positions=40, n_embd=32, n_layer=2, n_head=2, bos_token_id=2, eos_token_id=2
    ),
    "llama": lambda v: transformers.LlamaConfig(vocab_size=v, max_position_embeddings=40, **SIZES),
}
DECODERS = ("gpt2", "llama")


def tokenizer(is_decoder=False):
    """Words to numbers: as BERT has it, or with an end token alone, which also pads."""
    special = ["[UNK]", "[PAD]", "<end>"] if is_decoder else ["[UNK]", "[PAD]", "[CLS]", "[SEP]"]
    tok = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tok.normalizer, tok.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    tok.train_from_iterator(texts(60), trainers.WordLevelTrainer(special_tokens=special))
    if not is_decoder:
        tok.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    return tok


def tiny(kind, for_lm=False):
    """An untrained model."""
    torch.manual_seed(0)
    config = KINDS[kind](tokenizer(kind in DECODERS).get_vocab_size())
    return (transformers.AutoModelForCausalLM if for_lm else transformers.AutoModel).from_config(config)


def write_folder(folder, kind):
    """A folder as the hub has it: config.json, model.safetensors, tokenizer.json and what it says of its tokens."""
    (tiny(kind, for_lm=True) if kind in DECODERS else tiny(kind)).save_pretrained(folder)
    is_decoder = kind in DECODERS
    tok = tokenizer(is_decoder)
    roles = {"eos_token": "<end>", "bos_token": "<end>"} if is_decoder else {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    if not is_decoder:
        roles["pad_token"] = "[PAD]"
        tok.enable_padding(length=64, pad_id=1, pad_token="[PAD]")  # as such files say, though the model reads less
        tok.enable_truncation(4)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="[UNK]", **roles).save_pretrained(folder)
    return folder


def loaders(tok, items=None, target=CategoryBlock, get_y=opinion, bs=8, **text):
    """Texts with a target, cut to what these models read."""
    block = DataBlock(
        (TextBlock(tok, **{"max_len": 40, **text}), target), get_y=get_y, splitter=RandomSplitter(0.2, seed=0)
    )
    return block.dataloaders(items or texts(60), bs=bs, device="cpu")
