"""Small models of transformers with random weights, and tokenizers of their kinds, made here."""

import tokenizers as tk
import torch
import transformers as tf
from text_tiny import SIGNS, SPECIAL, tiny_tokenizer
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

CORPUS = ["a fine film, not a dull story!", "she landed on the moon", "don't, it was very good"] * 3
PLAIN = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
SMALL = dict(num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, hidden_size=16)


def word_pieces() -> tf.PreTrainedTokenizerFast:
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    named = dict(zip(names, SPECIAL, strict=True))
    return tf.PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(), **named)


def byte_pairs(kind: str) -> tf.PreTrainedTokenizerFast:
    """kind: "roberta", with <s> and </s> around, or "gpt2": no padding, nothing around, and pieces
    whose characters begin with the blank before a word."""
    own = tk.Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    special = PLAIN if kind == "roberta" else ["<|endoftext|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    own.train_from_iterator(CORPUS, trainer)
    if kind == "roberta":
        ends = ("</s>", 2), ("<s>", 0)
        own.post_processor = processors.RobertaProcessing(*ends, add_prefix_space=False)
        named = dict(pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>")
        return tf.PreTrainedTokenizerFast(tokenizer_object=own, mask_token="<mask>", **named)
    own.post_processor = processors.ByteLevel(trim_offsets=False)
    end = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    return tf.PreTrainedTokenizerFast(tokenizer_object=own, **end)


def unigrams() -> tf.DebertaV2Tokenizer:
    pieces = [*"▁abcdefghijklmnopqrstuvwxyz", *SIGNS, "▁fine", "▁film", "▁a", "▁not", "▁story"]
    vocabulary = [(piece, 0.0) for piece in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    return tf.DebertaV2Tokenizer(vocab=vocabulary + [(piece, -1.0 - len(pieces) / 99 / len(piece))
                                                     for piece in pieces])  # fmt: skip


def own_model(kind: str) -> tuple[torch.nn.Module, tf.PreTrainedTokenizerBase]:
    """A model in double precision and training mode, with its tokenizer."""
    made = {"deberta": unigrams} | dict.fromkeys(
        ("bert", "distilbert", "encoder", "t5"), word_pieces
    )
    tokenizer = made.get(kind, lambda: byte_pairs(kind.split("-")[0]))()
    size = dict(vocab_size=len(tokenizer), max_position_embeddings=64)
    small = size | SMALL
    gpt = dict(vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=2, n_head=2)
    end = dict(bos_token_id=0, eos_token_id=0)
    makers = {
        "bert": lambda: tf.BertForSequenceClassification(tf.BertConfig(num_labels=3, **small)),
        "encoder": lambda: tf.BertModel(tf.BertConfig(**small)),
        "distilbert": lambda: tf.DistilBertForSequenceClassification(
            tf.DistilBertConfig(**size, dim=16, n_layers=2, n_heads=2, hidden_dim=24)
        ),
        "roberta": lambda: tf.RobertaForSequenceClassification(
            tf.RobertaConfig(**small, pad_token_id=1, bos_token_id=0, eos_token_id=2)
        ),
        "gpt2": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(**gpt, **end)),
        "gpt2-classifier": lambda: tf.GPT2ForSequenceClassification(tf.GPT2Config(**gpt, **end)),
        "t5": lambda: tf.T5EncoderModel(
            tf.T5Config(
                vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2
            )
        ),
        "deberta": lambda: tf.DebertaV2ForSequenceClassification(
            tf.DebertaV2Config(**small, relative_attention=True, pos_att_type=["p2c", "c2p"])
        ),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = makers[kind]().double().train()
        for parameter in model.parameters():  # no zeros and ones, which would hide mistakes
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model, tokenizer
