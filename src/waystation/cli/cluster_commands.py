"""`waystation cluster`: make a cluster, look at one, and try one out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from waystation.cli.errors import CommandFailed, ExitCode, UsageError
from waystation.protocol.errors import Unavailable

if TYPE_CHECKING:
    from waystation.cli.settings import Settings
    from waystation.log.nats import NatsConnection

_DEADLINE_S = 60.0
"""For all that is asked of the NATS servers: sixteen streams take a second or two."""

_HELP = """\
usage: waystation cluster init --cluster nats://HOST[,nats://HOST...] [flags]
       waystation cluster status --cluster nats://HOST[,nats://HOST...] [flags]
       waystation cluster demo

  init     make what a cluster needs on its NATS servers, once, before its first node; it changes
           nothing that is there, so that it can be run again after a failure
  status   show the nodes of a cluster, and which of them serves which shards
  demo     run a whole cluster on this machine, to try: three NATS servers, three nodes, HAProxy

init and status take the flags, variables and configuration file of `waystation serve`, and use
those that say how to reach NATS (--cluster, --nats.*) and what a new cluster is like:
--nats.replicas (3), the servers that keep each message, and --cluster.shards (16), which nobody
can change later.

exit codes:
  0  done
  1  could not be done
  2  a flag is wrong or missing
"""

COMMANDS = ("init", "status", "demo")


def run_cluster_command(arguments: Sequence[str]) -> ExitCode:
    """Run `waystation cluster` with what comes after these words. Raises `UsageError`."""
    match arguments:
        case ["--help" | "-h" | "help"] | ["init" | "status" | "demo", "--help" | "-h"]:
            print(_HELP, end="")
            return ExitCode.STOPPED
        case ["demo"]:
            return _run(_demo)
        case ["init" | "status" as name, *flags]:
            settings = _load(flags)
            return _run(lambda: _ask(settings, _init if name == "init" else _status))
        case ["demo", *_]:
            raise UsageError("cluster demo takes no flags")
        case []:
            raise UsageError(f"a command is needed: cluster {', '.join(COMMANDS[:-1])} or {COMMANDS[-1]}")
    raise UsageError(f"command cluster {arguments[0]} is not known; there are: {', '.join(COMMANDS)}")


def _load(flags: Sequence[str]) -> Settings:
    from waystation.cli.settings import load_settings

    settings = load_settings(flags, os.environ)
    if not settings.nats.servers:
        raise UsageError("flag --cluster is missing: the addresses of the cluster's NATS servers")
    return settings


def _run(call: Callable[[], ExitCode]) -> ExitCode:
    from waystation.cli.serve import reason, tell

    try:
        return call()
    except KeyboardInterrupt:
        tell("interrupted")
    except (CommandFailed, Unavailable, OSError) as error:
        tell(reason(error))
    return ExitCode.FAILED


def _demo() -> ExitCode:
    from waystation.cli.demo import Demo

    return Demo().run()


def _ask(settings: Settings, call: Callable[[NatsConnection, Settings], Awaitable[str]]) -> ExitCode:
    print(asyncio.run(_with_connection(settings, call)))
    return ExitCode.STOPPED


async def _with_connection(
    settings: Settings, call: Callable[[NatsConnection, Settings], Awaitable[str]]
) -> str:
    from waystation.log.nats import NatsConnection

    connection = NatsConnection(settings.nats)
    await connection.open()
    try:
        async with asyncio.timeout(_DEADLINE_S):
            return await call(connection, settings)
    except TimeoutError:
        raise CommandFailed(f"the NATS servers did not do it within {_DEADLINE_S:.0f} s") from None
    finally:
        await connection.close()


async def _init(connection: NatsConnection, settings: Settings) -> str:
    from waystation.cluster.membership import create_cluster_bucket
    from waystation.log.jetstream import create_log_streams
    from waystation.log.nats_checks import check_servers
    from waystation.metadata.nats import create_metadata_bucket

    nats = settings.nats
    await check_servers(connection, nats)
    await create_metadata_bucket(connection, nats)
    # The record of the cluster tells how many shards there are, whoever asks for another number later.
    cluster = await create_cluster_bucket(
        connection, nats, shards=settings.cluster.shards, replicas=nats.replicas
    )
    await create_log_streams(connection, nats, cluster.shards)
    return (
        f"cluster {nats.prefix} is ready: {cluster.shards} shards, "
        f"each message on {nats.replicas} of the NATS servers"
    )


async def _status(connection: NatsConnection, settings: Settings) -> str:
    from waystation.cluster.bucket import ClusterBucket
    from waystation.cluster.membership import (
        NODE_KEYS,
        SHARD_KEYS,
        NodeRecord,
        ShardRecord,
        decode,
        load_cluster,
    )

    cluster = await load_cluster(connection, settings.nats)
    bucket = ClusterBucket(connection, settings.nats.prefix)
    await bucket.load()
    owners = {
        int(key.removeprefix(SHARD_KEYS)): decode(ShardRecord, bucket.entry(key).value)
        for key in bucket.keys(SHARD_KEYS)
    }
    nodes = [decode(NodeRecord, bucket.entry(key).value) for key in bucket.keys(NODE_KEYS)]
    lines = [f"cluster {settings.nats.prefix} ({cluster.id}), {cluster.shards} shards"]
    for node in sorted((node for node in nodes if node is not None), key=lambda node: node.id):
        served = [
            str(shard)
            for shard, owner in sorted(owners.items())
            if owner is not None and owner.state == "serving" and owner.incarnation == node.incarnation
        ]
        lines.append(
            f"  {node.id}  {node.state}  {node.address}  version {node.software}  shards: "
            f"{' '.join(served) or 'none'}"
        )
    incarnations = {node.incarnation for node in nodes if node is not None}
    alone = [
        str(shard)
        for shard in range(cluster.shards)
        if (owner := owners.get(shard)) is None
        or owner.state != "serving"
        or owner.incarnation not in incarnations
    ]
    lines.append(f"  served by nobody: {' '.join(alone)}" if alone else "  every shard is served")
    return "\n".join(lines)
