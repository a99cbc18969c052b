"""`layered serve MODEL`: a page to try a model, and a JSON endpoint."""

from __future__ import annotations

import argparse

from layered.serve import serve


def run_serve(args: argparse.Namespace) -> None:
    """Serve an exported model until Ctrl-C.

    Args:
        args: `model`: the file; `host`, `port`: where to listen; `max_mb`: the most megabytes of a request.
    """
    serve(args.model, args.host, args.port, args.max_mb)
