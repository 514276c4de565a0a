"""Keeping the authorities in the API: races, deletions, changes, and an API that is away."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from trust_authority import NOW
from trust_stage import Stage

from ovsnet.api import Kept, NoAnswerError
from ovsnet.controller.trust.authority import AuthorityError, read_secret
from ovsnet.controller.trust.keyring import Keyring


def test_the_first_makes_the_authority_and_publishes_it_and_others_read_it():
    stage = Stage(3)
    stage.rounds()
    (first, *others) = (each.held.authorities for each in stage.all)
    assert all(other.trusted == first.trusted for other in others)
    assert stage.bundle == first.bundle
    assert "PRIVATE" not in stage.bundle
    assert (stage.secret.writes, stage.published.writes) == (1, 1)


def test_of_two_that_make_one_at_once_the_first_wins():
    stage = Stage(2)
    one, other = stage.all
    stage.secret.before_write.append(other.round)
    one.round()
    assert one.held.authorities.trusted == other.held.authorities.trusted
    assert stage.secret.writes == 1
    assert stage.bundle == one.held.authorities.bundle


def test_of_two_that_prepare_a_successor_at_once_the_first_wins():
    stage = Stage(2)
    stage.rounds()
    stage.now += timedelta(days=71)
    one, other = stage.all
    stage.secret.before_write.append(other.round)
    one.round()
    assert one.held.authorities.next is not None
    assert one.held.authorities.trusted == other.held.authorities.trusted
    assert stage.secret.writes == 2
    assert stage.bundle == one.held.authorities.bundle


def test_many_threads_agree():
    stage = Stage(8)
    threads = [threading.Thread(target=each.round) for each in stage.all]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Whoever published nothing, or was too late with it, sees to it in the next round.
    stage.rounds()
    assert len({each.held.authorities.bundle for each in stage.all}) == 1
    assert stage.secret.writes == 1
    assert stage.bundle == stage.all[0].held.authorities.bundle


def test_what_is_deleted_is_written_again():
    stage = Stage(2)
    stage.rounds()
    before = stage.bundle
    stage.secret.kept = stage.published.kept = None
    stage.rounds()
    assert stage.bundle == before
    assert read_secret(stage.secret.kept.data).bundle == before


def test_a_controller_that_starts_when_all_is_deleted_makes_another_and_is_followed_by_none():
    stage = Stage()
    stage.rounds()
    before = stage.bundle
    stage.secret.kept = None
    stage.all = [stage.controller()]
    stage.rounds()
    assert stage.bundle != before
    assert stage.bundle == stage.all[0].held.authorities.bundle


def test_what_else_is_in_the_config_map_stays():
    stage = Stage()
    stage.published.kept = Kept({"note": "ours"}, {"resourceVersion": "7"})
    stage.rounds()
    assert stage.published.kept.data.keys() == {"note", "ca.crt"}


def test_contexts_stay_while_nothing_changes_and_are_new_when_something_does():
    stage = Stage()
    stage.rounds()
    (one,) = stage.all
    first = one.held
    stage.now += timedelta(days=4)
    stage.rounds()
    assert one.held is first
    # Its own certificate has a third of its seven days left.
    stage.now += timedelta(hours=16)
    stage.rounds()
    second = one.held
    assert second.switches is not first.switches
    assert second.authorities.trusted == first.authorities.trusted
    stage.now = NOW + timedelta(days=71)
    stage.rounds()
    assert len(one.held.authorities.trusted) == 2
    assert one.held.agents is not second.agents


def test_while_the_api_is_away_everything_stays_and_its_own_certificate_is_renewed():
    stage = Stage()
    stage.secret.away = True
    with pytest.raises(NoAnswerError):
        stage.rounds()
    (one,) = stage.all
    assert one.held is None
    stage.secret.away = False
    stage.rounds()
    first = one.held
    stage.secret.away = True
    for days in (1, 5):
        stage.now = NOW + timedelta(days=days)
        with pytest.raises(NoAnswerError):
            stage.rounds()
        assert (one.held is first) == (days == 1)
        assert one.held.authorities.trusted == first.authorities.trusted


def test_a_secret_that_is_no_authority_is_left_alone_and_what_was_in_force_stays():
    stage = Stage()
    stage.rounds()
    (one,) = stage.all
    held = one.held
    stage.secret.kept = Kept({"ca.crt": "?"}, {"resourceVersion": "99"})
    with pytest.raises(AuthorityError, match=r"ca\.crt"):
        stage.rounds()
    assert one.held is held
    assert stage.secret.kept.data == {"ca.crt": "?"}
    stage.all = [stage.controller()]
    with pytest.raises(AuthorityError):
        stage.rounds()
    assert stage.all[0].held is None


def test_its_thread_goes_on_after_failures():
    stage = Stage()
    stage.secret.away = True
    keyring = Keyring(stage.secret, stage.published, pause=0.01)
    keyring._failed = lambda reason: setattr(stage.secret, "away", False)
    keyring.start()
    for _ in range(1000):
        if keyring.held is not None and stage.published.kept is not None:
            break
        threading.Event().wait(0.02)
    keyring.stop()
    assert keyring.held is not None
