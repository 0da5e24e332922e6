"""A real client of the Query protocol: botocore, with the model of SQS that it had before AWS JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from botocore.loaders import Loader
from botocore.session import Session

from tests.protocol.query_model import query_model
from tests.server import Server, config


def query_client(server: Server, model_dir: Path, **settings: Any) -> Any:
    """Like `Server.client`, but it sends forms and reads XML.

    Args:
        model_dir: an empty directory, for the model to be written to.
        settings: those of botocore's `Config`.
    """
    model_path = model_dir / "sqs" / "2012-11-05" / "service-2.json"
    model_path.parent.mkdir(parents=True)
    model_path.write_text(json.dumps(query_model()))
    session = Session()
    session.register_component("data_loader", Loader(extra_search_paths=[str(model_dir)]))
    return session.create_client("sqs", **server.connection(), config=config(**settings))
