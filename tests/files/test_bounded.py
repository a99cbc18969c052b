"""Keys of files: of kinds that honest files have, and none that can be made to collide by the thousand."""

import pytest

from layered.files import plain_key

HONEST = ["", "a", b"a", True, None, 0, -1, 2**63 - 1, -(2**63), 2**64 - 1, 0.5, 1e300, float("inf")]
TUPLES = [(), ("lr", 3), (2**31, -(2**30)), (None, True, b"a", "a"), (1,) * 8]
COLLIDING = [2**61 * 16, -(2**64), (2**40, 2**40), (1,) * 9, (0.5,), ((1,),), frozenset({1}), 1j, slice(1), [], {}]


@pytest.mark.parametrize("key", HONEST + TUPLES, ids=repr)
def test_keys_of_honest_files_are_taken_as_they_are(key):
    assert plain_key(key) is key


@pytest.mark.parametrize("key", COLLIDING, ids=repr)
def test_keys_whose_hashes_can_be_chosen_are_refused(key):
    with pytest.raises(TypeError, match="a key of type"):
        plain_key(key)


def test_few_whole_numbers_of_64_bits_have_the_same_hash():
    period = 2**61 - 1
    alike = [n for n in range(-(2**64) + 1, 2**64, period) if hash(n) == hash(1 - 2**64)]
    assert len(alike) < 20
