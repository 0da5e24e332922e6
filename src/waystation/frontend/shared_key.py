"""The first access key of a cluster: the same for all its nodes, so it is kept in their metadata store.

Always: of nodes that start at once, all end with one key. Whoever can read the store can read
the secret, as whoever can read a data directory can: the store is protected by its own access rules.
"""

from __future__ import annotations

from contextlib import suppress

import msgspec

from waystation.frontend.access_keys import KeyFile, RootKeyError, make_key, usable
from waystation.frontend.auth import AccessKey
from waystation.metadata.store import Conflict, MetadataStore

STORED_UNDER = "key/root"


async def load_or_create_shared_key(
    store: MetadataStore, account: str, given_id: str | None, given_secret: str | None
) -> tuple[AccessKey, bool]:
    """Find the key that a node of a cluster starts with.

    Args:
        store: is open.
        given_id, given_secret: the operator's own choice, the same on every node; the store is then
            neither read nor written. None leaves it to the store.

    Returns:
        The key, and whether this node has just made it.

    Raises:
        RootKeyError: a key is given that cannot be used, or what is stored is none.
        MetadataUnavailable: the store cannot answer.
    """
    if given_id is not None and given_secret is not None:
        return usable(AccessKey(given_id, given_secret, account), "that is given"), False
    stored = await store.get(STORED_UNDER)
    if stored is not None and stored.value is not None:
        return usable(_decoded(stored.value, account), "of the cluster"), False
    key = make_key(account)
    with suppress(Conflict):  # another node has just made one: that it is
        await store.put(STORED_UNDER, msgspec.json.encode(KeyFile(key.id, key.secret)), 0)
        return key, True
    return (await load_or_create_shared_key(store, account, None, None))[0], False


def _decoded(value: bytes, account: str) -> AccessKey:
    try:
        saved = msgspec.json.decode(value, type=KeyFile)
    except msgspec.MsgspecError as error:
        raise RootKeyError(f"What the cluster has stored as its root key is none: {error}") from error
    return AccessKey(saved.access_key_id, saved.secret_access_key, account)
