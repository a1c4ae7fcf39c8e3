"""Scores of texts: what a text classifier has to beat, the answers that a network with a span head
gives, and how well they match the accepted ones, exactly and by F1, as SQuAD v1.1 defines it
(Rajpurkar et al., EMNLP 2016, Section 6.1)."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kpnb.datasets.texts.encoded import EncodedTexts
from kpnb.datasets.texts.word_pieces import NO_WORD, words
from kpnb.errors import KpnbError
from kpnb.training.train import restored

Labels = Tensor | Sequence[int]


def majority(train_labels: Labels, test_labels: Labels) -> float:
    """Accuracy, 0 to 1, on the test labels of the most frequent training label. Both are (n,)
    integers; of equally frequent labels the smallest is taken. Raises `KpnbError` for no labels."""
    train, test = _labels("train_labels", train_labels), _labels("test_labels", test_labels)
    values, counts = train.unique(return_counts=True)  # ascending, so argmax takes the smallest
    return (test == values[counts.argmax()]).double().mean().item()


def tfidf_logistic(
    train_texts: Sequence[str], train_labels: Labels, test_texts: Sequence[str], test_labels: Labels
) -> float:
    """Accuracy, 0 to 1, on the test texts of TF-IDF features with a logistic regression.

    Features: lower-case words (`kpnb.datasets.texts.word_pieces`) and pairs of neighbors, all that
    occur in the training texts, 1 + log(count) times the smoothed inverse document frequency, rows
    of norm 1. Classifier: L2 penalty with C = 100, the best of 1, 10 and 100 in five-fold
    cross-validation on the embedded training sentences (0.78, 0.800, 0.804); L-BFGS, which draws
    nothing, with up to 1,000 iterations.
    Raises `KpnbError` for texts and labels that do not match, and for a single training label.
    """
    train, test = _labels("train_labels", train_labels), _labels("test_labels", test_labels)
    for name, texts, labels in (("train", train_texts, train), ("test", test_texts, test)):
        if isinstance(texts, str) or len(texts) != len(labels):
            told = f"{name}_texts fits no {len(labels)} labels"
            raise KpnbError(f"{told}: pass a list with one text a label.")
    if len(train.unique()) < 2:
        raise KpnbError("The training texts have one label only: pass texts of two classes.")
    from sklearn.feature_extraction.text import TfidfVectorizer  # a second to import
    from sklearn.linear_model import LogisticRegression

    features = TfidfVectorizer(
        tokenizer=words, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True
    )
    model = LogisticRegression(C=100.0, max_iter=1000, random_state=0)
    model.fit(features.fit_transform(train_texts), train.numpy())
    guessed = model.predict(features.transform(test_texts))
    return (torch.from_numpy(guessed) == test).double().mean().item()


def _labels(name: str, labels: Labels) -> Tensor:
    labels = torch.as_tensor(labels)
    if labels.ndim != 1 or len(labels) == 0 or labels.is_floating_point():
        raise KpnbError(f"{name} has shape {tuple(labels.shape)}: pass (n,) integers, at least 1.")
    return labels.cpu()


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """`text` in lower case, without ASCII punctuation and the articles a, an, the.

    Runs of white space become one space. Punctuation goes first and leaves no gap: "U.S.A." is
    "usa", and the article in "a-priori" stays, as part of "apriori".
    """
    bare = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", bare).split())


def exact_match(prediction: str, accepted: Sequence[str]) -> float:
    """1.0 where the normalized prediction equals a normalized accepted answer, else 0.0. Raises
    `KpnbError` when no answer is accepted."""
    return _best(lambda p, a: float(p == a), prediction, accepted)


def f1(prediction: str, accepted: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over words, the best over the accepted answers.

    Words are those of the normalized texts, counted as often as they occur in both. Without a
    common word it is 0, also where both texts are empty, as in SQuAD v1.1.
    Raises `KpnbError` when no answer is accepted.
    """
    return _best(_word_f1, prediction, accepted)


def span_scores(predictions: Sequence[str], accepted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Means over n questions, from 0 to 1: {"exact_match": ..., "f1": ...}.

    predictions: n texts; accepted: n lists of accepted texts, such as `Questions.answer_texts`.
    Raises `KpnbError` for lists that are empty or differ in length.
    """
    if not len(predictions) or len(predictions) != len(accepted):
        raise KpnbError(f"{len(predictions)} predictions, {len(accepted)} questions: one for each.")
    pairs = list(zip(predictions, accepted, strict=True))
    scores = {"exact_match": exact_match, "f1": f1}
    return {
        name: sum(score(*pair) for pair in pairs) / len(pairs) for name, score in scores.items()
    }


def _word_f1(prediction: str, answer: str) -> float:
    found, wanted = prediction.split(), answer.split()
    common = (Counter(found) & Counter(wanted)).total()
    return 2 * common / (len(found) + len(wanted)) if common else 0.0


def _best(score: Callable[[str, str], float], prediction: str, accepted: Sequence[str]) -> float:
    if isinstance(accepted, str) or not len(accepted):
        raise KpnbError("A prediction needs a list of accepted answers: give at least one text.")
    normalized = normalize_answer(prediction)
    return max(score(normalized, normalize_answer(answer)) for answer in accepted)


LONGEST_ANSWER = 30  # pieces; the usual limit in evaluations on SQuAD


def predicted_answers(net: nn.Module, samples: EncodedTexts, batch_size: int = 64) -> list[str]:
    """The answer to each question, as it stands in its context.

    Among pieces of the context, with the last not before the first and at most LONGEST_ANSWER
    pieces in all, the pair with the largest sum of logits; whole words. Modes are left as they are.
    """
    pieces, found = samples.pieces, []
    device = next(net.parameters()).device
    with restored(net.modules(), "training"), torch.inference_mode():
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
