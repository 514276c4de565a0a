"""Objects and lists in the form that a client asks for: as they are, as tables, metadata only."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from ovsnet.sandbox.apiserver.columns import columns_of
from ovsnet.sandbox.apiserver.kinds import Kind, Object
from ovsnet.sandbox.apiserver.request import (
    ContinueToken,
    Form,
    ListOptions,
    VersionMatch,
    encode_token,
    expired_token,
)
from ovsnet.sandbox.apiserver.status import ApiError, bad_request, too_large_version
from ovsnet.sandbox.apiserver.store import Store, Stored
from ovsnet.sandbox.apiserver.tables import IncludeObject, partial_metadata, table
from ovsnet.sandbox.apiserver.watching import Scope, select


@dataclass(frozen=True)
class Presentation:
    """How a client wants to see objects."""

    kind: Kind
    form: Form
    include: IncludeObject
    now: datetime

    def one(self, stored: Stored) -> bytes:
        """One object."""
        match self.form:
            case Form.TABLE:
                metadata = {"resourceVersion": str(stored.revision)}
                return self._table([stored], metadata)
            case Form.METADATA:
                return msgspec.json.encode(partial_metadata(stored.decode()))
        return stored.body

    def page(self, page: Page) -> bytes:
        """A list of objects."""
        metadata: Object = {"resourceVersion": str(page.revision)}
        if page.token is not None:
            metadata["continue"] = encode_token(page.token)
        if page.remaining:
            metadata["remainingItemCount"] = page.remaining
        match self.form:
            case Form.TABLE:
                return self._table(page.items, metadata)
            case Form.METADATA:
                return msgspec.json.encode(
                    {
                        "kind": "PartialObjectMetadataList",
                        "apiVersion": "meta.k8s.io/v1",
                        "metadata": metadata,
                        "items": [partial_metadata(item.decode()) for item in page.items],
                    }
                )
        head = {
            "kind": f"{self.kind.kind}List",
            "apiVersion": self.kind.api_version,
            "metadata": metadata,
        }
        # The objects go in as the text that they were stored as.
        items = b",".join([item.body for item in page.items])
        return msgspec.json.encode(head)[:-1] + b',"items":[' + items + b"]}"

    def _table(self, items: Sequence[Stored], metadata: Object, header: bool = True) -> bytes:
        objects = (item.decode() for item in items)
        made = table(
            columns_of(self.kind),
            objects,
            self.include,
            now=self.now,
            metadata=metadata,
            header=header,
        )
        return msgspec.json.encode(made)

    def for_watch(self, clock: Callable[[], datetime]) -> Callable[[Stored], bytes]:
        """What renders the objects of a watch, the header of a table in the first alone."""
        if self.form is not Form.TABLE:
            return self.one
        first = True

        def row(stored: Stored) -> bytes:
            nonlocal first
            header, first = first, False
            at = Presentation(self.kind, self.form, self.include, clock())
            return at._table([stored], {"resourceVersion": str(stored.revision)}, header)

        return row


def presentation(kind: Kind, form: Form, query: Mapping[str, str], now: datetime) -> Presentation:
    """How a request wants to see a kind's objects. Raises ApiError (400)."""
    try:
        include = IncludeObject(query.get("includeObject") or "Metadata")
    except ValueError as error:
        raise bad_request(f"includeObject: {error}") from None
    return Presentation(kind, form, include, now)


@dataclass(frozen=True)
class Page:
    """A part of a list, all of it as of one revision."""

    items: Sequence[Stored]
    revision: int
    token: ContinueToken | None
    """Where the next page starts; None on the last."""
    remaining: int
    """How many objects are left; 0 where a selector makes that unknown."""


def list_page(store: Store, kind: Kind, scope: Scope, options: ListOptions) -> Page:
    """The page of a list that a request asks for.

    Raises ApiError: 410 for a revision that is no longer in the history, 504 for one to come.
    """
    collection = store[kind]
    if options.revision > store.revision:
        raise too_large_version(options.revision, store.revision)
    if options.match is VersionMatch.EXACT:
        revision = options.revision
        try:
            items = scope.filter(collection.at(revision, scope.namespace))
        except ApiError as error:
            raise (expired_token() if options.token is not None else error) from None
    else:
        revision = store.revision
        items = select(collection, scope)
    if options.token is not None:
        items = items[bisect_right(items, options.token.after, key=lambda item: item.key) :]
    if not options.limit or len(items) <= options.limit:
        return Page(items, revision, None, 0)
    page = items[: options.limit]
    unselected = not scope.labels and not scope.fields
    remaining = len(items) - len(page) if unselected else 0
    return Page(page, revision, ContinueToken(revision, page[-1].key), remaining)
