"""What this process need not look at again: pure."""

from net.filters.own_changes import OwnChanges


def test_what_was_seen_holds_through_a_run_of_our_own_changes_and_through_no_other() -> None:
    changes = OwnChanges()
    assert changes.alone_since(4, 4)
    assert not changes.alone_since(4, 5)
    assert changes.note(4, 5)
    assert changes.note(5, 6)
    assert changes.alone_since(4, 6)
    assert not changes.alone_since(3, 6), "somebody else's came before"
    assert not changes.alone_since(4, 7), "and after"


def test_a_strangers_change_within_or_between_ours_ends_the_run() -> None:
    changes = OwnChanges()
    assert not changes.note(4, 6)
    assert not changes.alone_since(4, 6)
    assert changes.note(6, 7)
    assert changes.note(8, 9)
    assert not changes.alone_since(6, 9)
    assert changes.alone_since(8, 9)
