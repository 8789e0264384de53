from hypothesis import given
from hypothesis import strategies as st

from dms_proto.data.keeping import Kept, victims
from dms_proto.ids import digest_of

NAMES = [digest_of(bytes([n])) for n in range(8)]
BLOBS = st.lists(
    st.builds(Kept, st.integers(0, 100), st.sampled_from(NAMES), st.integers(0, 50)),
    unique_by=lambda kept: kept.digest,
)
PINNED = st.sets(st.sampled_from(NAMES))
TIMES = st.integers(0, 100)


@given(BLOBS, PINNED, TIMES, TIMES, st.integers(0, 300))
def test_what_is_needed_or_just_used_stays_and_the_rest_fits(there, pinned, old, recent, largest):
    gone = victims(there, pinned, old, recent, largest)
    stays = set(there) - set(gone)
    assert all(kept.digest not in pinned and kept.used_at < recent for kept in gone)
    free = [kept for kept in stays if kept.digest not in pinned and kept.used_at < recent]
    assert sum(kept.size for kept in stays) <= largest or not free
    assert all(kept.used_at >= old for kept in free)


@given(BLOBS, PINNED, TIMES, st.integers(0, 300))
def test_nothing_goes_that_was_used_after_something_that_could_have_gone(there, pinned, recent, largest):
    gone = victims(there, pinned, 0, recent, largest)
    stays = [kept for kept in there if kept not in gone and kept.digest not in pinned and kept.used_at < recent]
    assert not gone or not stays or max(gone) <= min(stays)
    assert sum(kept.size for kept in there) > largest or not gone
