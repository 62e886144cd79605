"""Two responses agree if they differ only in times and new ids."""

import json

from benchmarks.compare.agreement import SEEDED, Disagreement, Observation, alike, disagreements


def test_times_in_any_precision_and_new_ids_are_alike() -> None:
    one = {"id": SEEDED + 1, "ts": "2024-11-04T14:30:00Z"}
    other = {"id": SEEDED + 7, "ts": "2025-01-01T00:00:00.123456Z"}
    assert alike([{"messages": [one]}]) == alike([{"messages": [other]}])


def test_seeded_ids_and_other_numbers_and_texts_are_compared() -> None:
    value = {
        "id": SEEDED,
        "author_id": SEEDED + 1,
        "next_cursor": None,
        "ts": "2024-11-04 14:30:00",
        "is_group": True,
    }
    assert alike(value) == value


def test_keys_that_peers_lack_are_not_compared() -> None:
    assert alike({"id": 1, "revision": 2, "my_role": "owner"}) == {"id": 1}


def test_the_order_of_keys_is_compared() -> None:
    assert json.dumps(alike({"b": 1, "a": 2})) == '{"b": 1, "a": 2}'


def test_a_disagreement_has_the_step_and_both_reactions() -> None:
    ours = [Observation("a send", "201"), Observation("its repeat", "201 replayed")]
    theirs = [Observation("a send", "201"), Observation("its repeat", "201")]
    assert disagreements(ours, ours) == []
    assert disagreements(ours, theirs) == [Disagreement("its repeat", "201 replayed", "201")]
