"""An extractive summary by TextRank: the sentences that most resemble all the others.

Sentences are vectors of TF-IDF weights, their likeness is the cosine, and their rank is that of a
random walk over the likenesses (Mihalcea and Tarau, 2004). Sums run in the order of the text, so
the outcome is the same in every process.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict

from service.runners.models import Done, Failed, RunOutcome, RunRequest

#: What the free variant reads and gives.
FREE_CHARACTERS = 2000
FREE_SENTENCES = 2
#: Likeness is computed for every pair: this many sentences take about a second.
MAX_SENTENCES = 400
_DEFAULT_SENTENCES = 3
_KEYWORDS = 6
_DAMPING = 0.85
_ITERATIONS = 40
# Ranks that differ less are equal; then the earlier sentence comes first.
_DIGITS = 9

_WORD = re.compile(r"[^\W\d_][\w'’-]*")
# Always consumes the whole run of marks: looking ahead here would make long runs quadratic.
_END = re.compile(r"[.!?…]+[\"'”’»)\]]*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ABBREVIATIONS = _words(
    "mr mrs ms dr prof sr jr st vs etc inc ltd co corp no fig vol ca bzw usw vgl nr str approx dept"
    " e.g i.e z.b d.h u.a al est"
)
_STOPWORDS = _words(
    "a about after all also an and any are as at be because been before being between both but by"
    " can could did do does down each few for from further had has have having he her here him his"
    " how i if in into is it its just me more most my no nor not of off on once one only or other"
    " our out over own same she should so some such than that the their them then there these they"
    " this those through to too under until up very was we were what when where which while who"
    " whom why will with would you your"
    " aber als am an auch auf aus bei bin bis das dass dem den der des die dies diese doch durch"
    " ein eine einem einen einer eines er es für hat ich im in ist ja kann mit nach nicht noch nur"
    " oder sich sie sind so um und uns vom von vor war was wenn werden wie wir wird zu zum zur"
    " über"
)


def run(request: RunRequest) -> RunOutcome:
    free = request.variant == "free"
    text: str = request.inputs["text"]
    wanted = int(request.inputs.get("sentences", _DEFAULT_SENTENCES))
    read = text[:FREE_CHARACTERS] if free else text
    found = sentences(read)
    if not any(_WORD.search(sentence) for sentence in found):
        return Failed("nothing-to-summarise", "The text holds no sentence of words.", False)
    considered = found[:MAX_SENTENCES]
    vectors = _vectors(considered)
    chosen = _best(vectors, min(wanted, FREE_SENTENCES) if free else wanted)
    bullets = request.inputs.get("style") == "bullets"
    lines = [("- " if bullets else "") + considered[i] for i in chosen]
    parts = [
        f"Summary ({len(chosen)} of {len(considered)} sentences)",
        ("\n" if bullets else " ").join(lines),
    ]
    if not free and (keywords := _keywords(vectors)):
        parts.append("Keywords: " + ", ".join(keywords))
    if free and len(text) > FREE_CHARACTERS:
        parts.append(
            f"Free variant: the first {FREE_CHARACTERS} of {len(text)} characters were read."
        )
    if len(found) > MAX_SENTENCES:
        parts.append(f"The first {MAX_SENTENCES} of {len(found)} sentences were read.")
    return Done("\n\n".join(parts))


def sentences(text: str) -> list[str]:
    """The sentences in order, white space evened out; a blank line ends a sentence, too."""
    found = []
    for paragraph in _paragraphs(text):
        start = 0
        for mark in _END.finditer(paragraph):
            if _ends_sentence(paragraph, start, mark):
                found.append(paragraph[start : mark.end()].strip())
                start = mark.end()
        if rest := paragraph[start:].strip():
            found.append(rest)
    return [sentence for sentence in found if _WORD.search(sentence)]


def _paragraphs(text: str) -> list[str]:
    collected: list[list[str]] = [[]]
    for line in text.splitlines():
        if words := line.split():
            collected[-1] += words
        elif collected[-1]:
            collected.append([])
    return [" ".join(words) for words in collected if words]


def _ends_sentence(paragraph: str, start: int, mark: re.Match[str]) -> bool:
    after = paragraph[mark.end() : mark.end() + 2]
    if after and not (after[0] == " " and not after[1:].islower()):
        return False
    if mark.group() != ".":
        return True
    before = paragraph[max(start, mark.start() - 20) : mark.start()].split()
    word = before[-1].lstrip("(\"'“„").casefold() if before else ""
    return word not in _ABBREVIATIONS and not (len(word) == 1 and word.isalpha())


def _vectors(texts: list[str]) -> list[dict[str, float]]:
    """One TF-IDF vector of length 1 per sentence."""
    counts = [
        Counter(w for w in _WORD.findall(text.casefold()) if w not in _STOPWORDS and len(w) > 1)
        for text in texts
    ]
    spread = Counter(word for count in counts for word in count)
    vectors = []
    for count in counts:
        weights = {
            word: times * (1.0 + math.log((1 + len(texts)) / (1 + spread[word])))
            for word, times in count.items()
        }
        length = math.sqrt(sum(weight * weight for weight in weights.values()))
        vectors.append({word: weight / length for word, weight in weights.items()})
    return vectors


def _best(vectors: list[dict[str, float]], wanted: int) -> list[int]:
    """The highest ranked sentences, in the order of the text."""
    ranks = _ranks(_likenesses(vectors))
    order = sorted(range(len(ranks)), key=lambda i: (-round(ranks[i], _DIGITS), i))
    return sorted(order[:wanted])


def _likenesses(vectors: list[dict[str, float]]) -> list[dict[int, float]]:
    """For each sentence the cosine with every other that shares a word with it."""
    holders: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    links: list[dict[int, float]] = [{} for _ in vectors]
    for i, vector in enumerate(vectors):
        row = links[i]
        for word, weight in vector.items():
            for j, other in holders[word]:
                row[j] = row.get(j, 0.0) + weight * other
            holders[word].append((i, weight))
        for j, likeness in row.items():
            links[j][i] = likeness
    return links


def _ranks(links: list[dict[int, float]]) -> list[float]:
    count = len(links)
    totals = [sum(row.values()) for row in links]
    shares = [{j: like / totals[j] for j, like in row.items()} for row in links]
    ranks = [1.0 / count] * count
    for _ in range(_ITERATIONS):
        ranks = [
            (1 - _DAMPING) / count + _DAMPING * sum(ranks[j] * share for j, share in row.items())
            for row in shares
        ]
    return ranks


def _keywords(vectors: list[dict[str, float]]) -> list[str]:
    weights: defaultdict[str, float] = defaultdict(float)
    for vector in vectors:
        for word, weight in vector.items():
            weights[word] += weight
    order = sorted(weights, key=lambda word: (-round(weights[word], _DIGITS), word))
    return order[:_KEYWORDS]
