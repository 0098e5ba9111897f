#!/usr/bin/env python3
"""The few things that `.ci/servers` needs to know about ports and S3.

    s3.py port PORT|+PORT [NOT ...]          prints a free port of 127.0.0.1; +N takes another one if N is taken
    s3.py bucket URL SECONDS PID             URL is http://KEY:SECRET@HOST:PORT/BUCKET; waits until the server
                                             stores and returns an object in that bucket, which it makes
"""

import os
import socket
import sys
import time
import urllib.parse


def is_free(port: int) -> bool:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def choose_port(wanted: str, avoid: list[str]) -> int:
    port = int(wanted)
    if is_free(port) and str(port) not in avoid:
        return port
    if not wanted.startswith("+"):
        sys.exit(f"port {port} is taken")
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        if str(port) not in avoid:
            return port


def client(url: urllib.parse.SplitResult):
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=f"http://{url.hostname}:{url.port}",
        region_name="us-east-1",
        aws_access_key_id=url.username,
        aws_secret_access_key=url.password,
        config=Config(
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            connect_timeout=2,
            read_timeout=10,
        ),
    )


def make_bucket(s3, bucket: str) -> None:
    """Makes the bucket if need be, and proves that it keeps an object."""
    from botocore.exceptions import ClientError

    try:
        s3.create_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise
    key = f".ready-{os.getpid()}"
    s3.put_object(Bucket=bucket, Key=key, Body=b"ready")
    try:
        if s3.get_object(Bucket=bucket, Key=key)["Body"].read() != b"ready":
            raise OSError("an object came back changed")
    finally:
        s3.delete_object(Bucket=bucket, Key=key)


def wait_for_bucket(url: str, seconds: float, pid: int) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    parsed = urllib.parse.urlsplit(url)
    s3, bucket = client(parsed), parsed.path.strip("/")
    deadline = time.monotonic() + seconds
    while True:
        try:
            return make_bucket(s3, bucket)
        except (BotoCoreError, ClientError, OSError) as error:
            last = error
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            sys.exit("the server ended by itself")
        if time.monotonic() > deadline:
            sys.exit(f"no answer within {seconds:.0f} s: {last}")
        time.sleep(0.3)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["port", wanted, *avoid]:
            print(choose_port(wanted, avoid))
        case ["bucket", url, seconds, pid]:
            wait_for_bucket(url, float(seconds), int(pid))
        case _:
            sys.exit(__doc__)
