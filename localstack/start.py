#!/usr/bin/env python3
"""Runs LocalStack's S3 as a plain process: no container engine, nothing but this machine can reach it.

    python start.py --port 4566 --root DIR

Stops on SIGTERM. All it stores is below DIR and gone when it stops.
"""

import argparse
import os
import tempfile


def settings(port: int, root: str) -> dict[str, str]:
    """The environment that LocalStack reads its configuration from, at import."""
    return {
        "SERVICES": "s3",
        "STRICT_SERVICE_LOADING": "1",
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "FILESYSTEM_ROOT": root,
        # It takes itself to be inside its container otherwise, and wants folders of the root.
        "OVERRIDE_IN_DOCKER": "0",
        # No DNS server on port 53, no telemetry, no download of a certificate: there is no network.
        "DNS_ADDRESS": "0",
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        # Checks presigned URLs. It never checks signatures in headers.
        "S3_SKIP_SIGNATURE_VALIDATION": "0",
    }


def listen_on_loopback_only() -> None:
    """LocalStack binds every IPv4 address and ignores GATEWAY_LISTEN: it drops the host on the way
    to Twisted. Test credentials are no secret, so the endpoint itself is made to stay at home."""
    from twisted.internet import endpoints

    everywhere = endpoints.TCP4ServerEndpoint

    def loopback(reactor, port, backlog=50, interface=""):
        return everywhere(reactor, port, backlog, interface="127.0.0.1")

    endpoints.TCP4ServerEndpoint = loopback


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--port", type=int, default=4566)
    args.add_argument("--root", required=True, help="a folder for what it stores")
    args = args.parse_args()

    root = os.path.abspath(args.root)
    scratch = os.path.join(root, "tmp")
    os.makedirs(scratch, exist_ok=True)
    # Larger objects are spooled to temporary files, which a kill would leave behind elsewhere.
    tempfile.tempdir = os.environ["TMPDIR"] = scratch
    os.environ.update(settings(args.port, root))

    listen_on_loopback_only()
    from localstack.runtime.main import main as run

    run()


if __name__ == "__main__":
    main()
