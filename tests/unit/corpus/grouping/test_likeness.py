"""Words, similarity, passages and groups, against slow and obvious versions of themselves."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memsinks.corpus.grouping.groups import Likeness, likenesses, stars
from memsinks.corpus.grouping.passages import fingerprints, shared_passages
from memsinks.corpus.grouping.similar import BANDS, band_keys, candidate_pairs, candidates, resemblance, shingles
from memsinks.corpus.grouping.words import runs, word_hashes, word_spans

WORDS = st.lists(st.sampled_from([f"w{i}" for i in range(60)]), max_size=80)


@given(WORDS, st.randoms(use_true_random=False))
def test_case_punctuation_and_layout_do_not_matter(words, random):
    plain = word_hashes(" ".join(words))
    dressed = "".join(
        random.choice(["", "“", "(", "\n\n"])
        + random.choice([w, w.upper(), w.title()])
        + random.choice([", ", "\t", "! "])
        for w in words
    )
    assert word_hashes(dressed).tolist() == plain.tolist()
    assert len(set(plain.tolist())) == len(set(words))


def test_words_of_scripts_without_blanks_are_characters():
    assert len(word_hashes("東京に行く")) == 5
    assert word_hashes("ﬁne Straße ＡＢＣ").tolist() == word_hashes("fine STRASSE abc").tolist()
    assert [tuple("東京 abc"[a:b] for a, b in word_spans("東京 abc"))] == [("東", "京", "abc")]


@given(WORDS, st.integers(1, 9))
def test_runs_are_equal_where_the_words_are(words, length):
    found = runs(word_hashes(" ".join(words)), length).tolist()
    expected = [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]
    assert len(found) == len(expected)
    assert {
        (a == b) == (x == y) for (a, x), (b, y) in itertools.product(zip(found, expected, strict=True), repeat=2)
    } <= {True}


@given(WORDS, WORDS)
def test_resemblance_is_that_of_sets(a, b):
    sets = [{tuple(w[i : i + 3]) for i in range(max(1, len(w) - 2))} if w else set() for w in (a, b)]
    shared = len(sets[0] & sets[1])
    expected = (shared / len(sets[0] | sets[1]), shared / max(map(len, sets))) if all(sets) else (0.0, 0.0)
    assert resemblance(*(shingles(word_hashes(" ".join(w))) for w in (a, b))) == pytest.approx(expected)


def documents(random, count, length=200, vocabulary=2000):
    return [random.integers(0, vocabulary, length) for _ in range(count)]


def hashed(words):
    return word_hashes(" ".join(f"w{w}" for w in words))


def test_edited_copies_are_found_and_others_are_not():
    random = np.random.default_rng(0)
    originals = documents(random, 150)
    edited = []
    for words in originals:
        copy = words.copy()
        copy[random.choice(len(copy), 8, replace=False)] = 2000 + np.arange(8)
        edited.append(copy)
    words = [hashed(w) for w in [*originals, *edited]]
    keys = band_keys([shingles(w) for w in words])
    assert keys.shape == (300, BANDS)
    order = random.permutation(300)
    found = set(map(tuple, candidate_pairs((keys[:, band] for band in range(BANDS)), order).tolist()))
    exact = {
        (a, b) if order[a] < order[b] else (b, a)
        for a, b in itertools.combinations(range(300), 2)
        if resemblance(shingles(words[a]), shingles(words[b]))[0] >= 0.7
    }
    assert len(exact) == 150  # 8 of 200 words change at most 24 of 198 shingles
    assert len(found & exact) >= 0.98 * len(exact)
    assert len(found - exact) <= 2


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 4), st.randoms(use_true_random=False))
def test_candidates_are_pairs_of_one_key_with_the_first_partners(keys, partners, random):
    order = np.array(random.sample(range(len(keys)), len(keys)), dtype=np.int64)
    found = candidates(np.array(keys, dtype=np.uint64), order, partners).tolist()
    expected = set()
    for key in set(keys):
        bucket = sorted((i for i, k in enumerate(keys) if k == key), key=lambda i: order[i])
        expected |= {(a, b) for n, a in enumerate(bucket[:partners]) for b in bucket[n + 1 :]}
    assert len(found) == len(expected)
    assert set(map(tuple, found)) == expected


def all_runs(a, b, length):
    """Every longest common run of at least ``length`` words, by trying all places."""
    found = set()
    for i, j in itertools.product(range(len(a)), range(len(b))):
        if a[i] != b[j] or (i and j and a[i - 1] == b[j - 1]):
            continue
        n = 0
        while i + n < len(a) and j + n < len(b) and a[i + n] == b[j + n]:
            n += 1
        if n >= length:
            found.add((i, j, n))
    return found


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_every_shared_run_of_words_is_found_whole(data):
    length = data.draw(st.integers(8, 14))
    alphabet = data.draw(st.sampled_from([3, 500]))  # few words make runs overlap in many ways
    words = [data.draw(st.lists(st.integers(0, alphabet), max_size=60)) for _ in range(3)]
    for _ in range(data.draw(st.integers(0, 3))):
        source, target = data.draw(st.permutations(range(3)))[:2]
        if len(words[source]) > length:
            start = data.draw(st.integers(0, len(words[source]) - length))
            piece = words[source][start : start + data.draw(st.integers(length, length + 10))]
            place = data.draw(st.integers(0, len(words[target])))
            words[target] = words[target][:place] + piece + words[target][place:]
    hashes = [hashed(w) for w in words]
    prints = [fingerprints(h, length) for h in hashes]
    documents = np.repeat(np.arange(3), [len(h) for h, _ in prints])
    found = shared_passages(
        np.concatenate([h for h, _ in prints]),
        documents,
        np.concatenate([p for _, p in prints]),
        np.arange(3),
        hashes.__getitem__,
        length,
    )
    by_pair = {(p[0].a, p[0].b): {(x.a_start, x.b_start, x.words) for x in p} for p in found}
    for a, b in ((0, 1), (0, 2), (1, 2)):
        expected = all_runs(words[a], words[b], length)
        got = by_pair.get((a, b), set())
        assert got <= expected
        if alphabet == 500:  # with three words a fingerprint occurs so often that not all its places are paired
            assert got == expected


def test_a_chain_does_not_merge_its_ends():
    found = stars(3, [Likeness(0, 1, 0.7, 0.8), Likeness(1, 2, 0.7, 0.8)])
    assert found.representative.tolist() == [0, 0, 2]


def test_a_text_joins_the_representative_that_it_is_most_like():
    found = stars(
        4, [Likeness(a, b, 0.5, shared) for a, b, shared in ((0, 2, 0.7), (1, 2, 0.9), (0, 3, 0.8), (1, 3, 0.8))]
    )
    assert found.representative.tolist() == [0, 1, 1, 0]
    assert found.evidence[2].shared == 0.9


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11), st.floats(0.5, 1)), max_size=30))
def test_members_are_like_their_representative(pairs):
    edges = {(min(a, b), max(a, b)): Likeness(min(a, b), max(a, b), 0.5, value) for a, b, value in pairs if a != b}
    found = stars(12, edges.values())
    assert found.representative.tolist() == stars(12, reversed(edges.values())).representative.tolist()
    for text, leader in enumerate(found.representative.tolist()):
        assert found.representative[leader] == leader
        assert leader == text or edges[leader, text] == found.evidence[text]
    leaders = set(found.representative.tolist())
    # No two representatives are alike: one of them would have joined the other.
    assert not any(a in leaders and b in leaders for a, b in edges)


def test_passages_make_a_family_of_a_template_but_not_of_a_clause():
    random = np.random.default_rng(1)
    fixed, clause = documents(random, 2, 160)
    letters = [np.concatenate([fixed[:80], w, fixed[80:]]) for w in documents(random, 3, 60, 9000)]
    others = [np.concatenate([w[:100], clause[:40], w[100:]]) for w in documents(random, 2, 300, 9000)]
    words = [hashed(w) for w in [*letters, *others]]
    keys = band_keys([shingles(w) for w in words])
    prints = [fingerprints(w, 25) for w in words]
    texts = np.repeat(np.arange(5), [len(h) for h, _ in prints])
    edges, passages = likenesses(
        5,
        (keys[:, band] for band in range(BANDS)),
        [(np.concatenate([h for h, _ in prints]), texts, np.concatenate([p for _, p in prints]))],
        words.__getitem__,
        similarity=0.7,
        template=0.5,
        passage_words=25,
    )
    assert {(e.a, e.b) for e in edges} == {(0, 1), (0, 2), (1, 2)}
    assert all(e.shared == pytest.approx(156 / 218) for e in edges)
    assert {(p.a, p.b, p.a_start, p.b_start, p.words) for p in passages if p.a == 3} == {(3, 4, 100, 100, 40)}
