"""The answer that a network with a span head gives: the best pair of a first and a last piece."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kpnb.encoded_texts import EncodedTexts
from kpnb.span_scores import span_scores
from kpnb.training import keep_modes
from kpnb.word_pieces import NO_WORD

LONGEST_ANSWER = 30  # pieces; the usual limit in evaluations on SQuAD


def predicted_answers(net: nn.Module, samples: EncodedTexts, batch_size: int = 64) -> list[str]:
    """The answer to each question, as it stands in its context.

    Among pieces of the context, with the last not before the first and at most LONGEST_ANSWER
    pieces in all, the pair with the largest sum of logits; whole words. Eval mode, modes as before
    after.
    """
    pieces, found = samples.pieces, []
    device = next(net.parameters()).device
    with keep_modes(net), torch.inference_mode():
        net.eval()
        for rows in torch.arange(len(samples)).split(batch_size):
            logits = net(pieces.ids[rows].to(device)).cpu()
            for row, ends in zip(rows.tolist(), logits, strict=True):
                found.append(_answer(samples, row, ends))
    return found


def answer_scores(net: nn.Module, samples: EncodedTexts) -> dict[str, float]:
    """ "f1" and "exact_match" of the predicted answers, from 0 to 1."""
    found = span_scores(predicted_answers(net, samples), samples.answers)
    return {"f1": found["f1"], "exact_match": found["exact_match"]}


def _answer(samples: EncodedTexts, row: int, logits: Tensor) -> str:
    words, first = samples.pieces.words[row], samples.pieces.firsts[row]
    inside = (words != NO_WORD) & (words >= first)
    start, end = logits.masked_fill(~inside.unsqueeze(1), -torch.inf).unbind(1)
    pairs = start.unsqueeze(1) + end.unsqueeze(0)
    ones = torch.ones_like(pairs, dtype=torch.bool)
    allowed = ones.triu() & ~ones.triu(LONGEST_ANSWER)
    best = int(pairs.masked_fill(~allowed, -torch.inf).argmax())
    begin, last = divmod(best, len(words))
    spans, context = samples.pieces.spans[row], samples.parts[row][1]
    return context[spans[int(words[begin])][0] : spans[int(words[last])][1]]
