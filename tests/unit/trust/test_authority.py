"""The authorities: how they are kept, and how one takes another's place in time."""

from __future__ import annotations

import base64

import pytest
from cryptography import x509
from trust_authority import DAY, NOW
from trust_stage import TERMS

from ovsnet.controller.trust.authority import (
    Authorities,
    AuthorityError,
    advanced,
    fresh,
    read_secret,
    secret_data,
)


def same(one: Authorities, other: Authorities) -> bool:
    return secret_data(one) == secret_data(other)


def subjects(found: Authorities) -> list[str]:
    return [c.subject.rfc4514_string() for c in found.trusted]


def test_what_a_secret_keeps_is_what_is_read_from_it():
    first, second, third = (fresh(NOW, TERMS) for _ in range(3))
    for held in (
        Authorities(first),
        Authorities(first, second),
        Authorities(first, None, third.certificate),
        Authorities(first, second, third.certificate),
    ):
        read = read_secret(secret_data(held))
        assert same(read, held)
        assert read.trusted == held.trusted


def test_an_authority_may_sign_nodes_and_no_other_authority():
    made = fresh(NOW, TERMS)
    constraints = made.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    assert made.made == NOW
    assert made.certificate.not_valid_after_utc == NOW + TERMS.life


def test_from_one_authority_to_the_next_without_a_gap():
    """Day by day over two generations; what was trusted yesterday must be by whom signs today."""
    held = Authorities(fresh(NOW, TERMS))
    history = []
    for day in range(200):
        now = NOW + day * DAY
        before, held = held, advanced(held, now, TERMS)
        assert advanced(held, now, TERMS) is held
        assert held.signing.certificate in before.trusted
        assert before.signing.certificate in held.trusted
        assert now < held.signing.certificate.not_valid_after_utc
        history.append((len(held.trusted), held.signing.certificate))
    changes = [d for d in range(1, 200) if history[d][1] != history[d - 1][1]]
    assert changes == [76, 147]
    # The successor is known for `overlap` before, the former for as long after.
    assert [d for d in range(200) if history[d][0] == 2] == [*range(71, 81), *range(142, 152)]


def test_nothing_changes_while_nothing_is_due():
    held = Authorities(fresh(NOW, TERMS))
    assert advanced(held, NOW, TERMS) is held
    assert advanced(held, NOW + 70 * DAY, TERMS) is held


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data, other: data.pop("ca.crt"), "ca.crt: missing"),
        (lambda data, other: data.pop("ca.key"), "ca.key: missing"),
        (lambda data, other: data.update({"ca.crt": "?"}), "ca.crt: "),
        (
            lambda data, other: data.update({"ca.crt": base64.b64encode(b"x").decode()}),
            "ca.crt: no certificate",
        ),
        (
            lambda data, other: data.update({"ca.key": data["ca.crt"]}),
            "ca.key: no private key",
        ),
        (
            lambda data, other: data.update({"ca.key": other["ca.key"]}),
            "ca.key is not the key of ca.crt",
        ),
        (lambda data, other: data.update({"next.crt": data["ca.crt"]}), "next.key: missing"),
        (lambda data, other: data.update({"former.crt": ""}), "former.crt: no certificate"),
    ],
)
def test_a_secret_that_is_wrong_is_refused_in_words(change, words):
    data = secret_data(Authorities(fresh(NOW, TERMS)))
    change(data, secret_data(Authorities(fresh(NOW, TERMS))))
    with pytest.raises(AuthorityError, match=words):
        read_secret(data)
