#!/usr/bin/env python3
"""Draws the pictures of README and ARCHITECTURE: `docs/draw.py` writes them, `docs/draw.py --check`
fails where one that is checked in is another. Python alone, no packages."""

import sys
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent

STYLE = """
    text { font: 13px ui-sans-serif, system-ui, sans-serif; fill: #24292f; }
    .head { font-weight: 600; font-size: 14px; }
    .mono { font-family: ui-monospace, SFMono-Regular, Menlo, monospace; font-size: 12.5px; }
    .dim { fill: #57606a; }
    .line { stroke: #8c959f; fill: none; }
    .life { stroke: #d0d7de; stroke-dasharray: 3 4; }
    .arrow { stroke: #24292f; stroke-width: 1.3; fill: none; }
    .tip { fill: #24292f; }
    .box { fill: #f6f8fa; stroke: #d0d7de; }
    .data { fill: #ddf4ff; stroke: #54aeff; }
    .lasting { fill: #dafbe1; stroke: #4ac26b; }
    .passing { fill: #fff8c5; stroke: #d4a72c; }
    .broken { stroke: #cf222e; stroke-width: 1.6; fill: none; }
    .alarm { fill: #cf222e; font-weight: 600; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .dim { fill: #9198a1; }
      .line { stroke: #6e7681; }
      .life { stroke: #3d444d; }
      .arrow { stroke: #e6edf3; }
      .tip { fill: #e6edf3; }
      .box { fill: #151b23; stroke: #3d444d; }
      .data { fill: #0c2d6b; stroke: #388bfd; }
      .lasting { fill: #033a16; stroke: #2ea043; }
      .passing { fill: #3b2300; stroke: #bb8009; }
      .broken { stroke: #f85149; }
      .alarm { fill: #f85149; }
    }
"""


class Picture:
    def __init__(self, width, height, title):
        self.size = (width, height)
        self.title = title
        self.shapes = []

    def put(self, shape):
        self.shapes.append("  " + shape)

    def text(self, x, y, words, style="", anchor="start"):
        self.put(f'<text x="{x}" y="{y}" class="{style}" text-anchor="{anchor}">{escape(words)}</text>')

    def box(self, x, y, width, height, style):
        self.put(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" class="{style}"/>')

    def path(self, points, style):
        (x, y), *rest = points
        steps = " ".join(f"L{x} {y}" for x, y in rest)
        self.put(f'<path d="M{x} {y} {steps}" class="{style}"/>')

    def arrow(self, x, y, to, words="", style="mono", broken=False):
        ahead = 1 if to > x else -1
        self.path([(x, y), (to - 6 * ahead, y)], "broken" if broken else "arrow")
        if broken:
            at = to - 6 * ahead
            self.path([(at - 5, y - 5), (at + 5, y + 5)], "broken")
            self.path([(at - 5, y + 5), (at + 5, y - 5)], "broken")
        else:
            self.put(f'<path d="M{to} {y} L{to - 9 * ahead} {y - 4} L{to - 9 * ahead} {y + 4} Z" class="tip"/>')
        self.text((x + to) / 2, y - 6, words, style, "middle")

    def svg(self):
        width, height = self.size
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            f"  <title>{escape(self.title)}</title>",
            f"  <style>{STYLE}  </style>",
            *self.shapes,
            "</svg>",
        ]
        return "\n".join(lines) + "\n"


def push():
    """One interrupted push, from top to bottom: the messages between the parties."""
    client, one, two, bucket = 70, 330, 520, 860
    picture = Picture(960, 640, "An interrupted push, resumed by another process")
    heads = [(client, "client"), (one, "a process"), (two, "another process"), (bucket, "the bucket")]
    for x, name in heads:
        picture.box(x - 66, 14, 132, 28, "box")
        picture.text(x, 33, name, "head", "middle")
        picture.path([(x, 46), (x, 628)], "life")

    at = [80]

    def down(by):
        at[0] += by
        return at[0]

    def asks(process, words, **how):
        picture.arrow(client, at[0], process, words, **how)

    def stores(process, words, style="passing"):
        middle = (two + bucket) / 2 + 20
        picture.arrow(process, at[0], bucket, "", "mono")
        width = 7.7 * len(words) + 18
        picture.box(middle - width / 2, at[0] - 11, width, 22, style)
        picture.text(middle, at[0] + 4, words, "mono", "middle")

    def note(x, words, style="dim", anchor="start"):
        picture.text(x, at[0] + 4, words, style, anchor)

    asks(one, "POST")
    stores(one, "session")
    down(44)
    asks(one, "PATCH  bytes …")
    note(one + 12, "hashed once, and cut into parts")
    down(26)
    for number in (1, 2, 3):
        stores(one, f"part {number} + CRC64NVME", "data")
        down(28)
    picture.arrow(client, at[0], one, "… interrupted", broken=True)
    stores(one, "tail: the rest, less than a part")
    down(18)
    note(client + 12, "every received byte is kept")
    down(10)
    stores(one, "session: offset, hash state")
    down(54)
    asks(two, "GET  offset?")
    picture.arrow(bucket, at[0], two, "session + list of parts")
    down(44)
    asks(two, "PATCH  the rest")
    note(two + 12, "hashing continues from the state")
    down(26)
    stores(two, "part 4 + CRC64NVME", "data")
    down(44)
    asks(two, "PUT  ?digest=sha256:…")
    stores(two, "session: committing")
    down(18)
    note(two - 12, "from here on", anchor="end")
    down(14)
    note(two - 12, "no byte is needed:", anchor="end")
    stores(two, "Complete, in place", "data")
    down(14)
    note(two - 12, "any process can", anchor="end")
    down(14)
    note(two - 12, "complete the commit", anchor="end")
    down(4)
    stores(two, "record: digest → data", "lasting")
    down(30)
    stores(two, "link in the repository", "lasting")
    down(30)
    picture.arrow(two, at[0], client, "201")
    down(34)
    stores(two, "session removed")
    return picture.svg()


def bucket():
    """The keys below the root, by what they are and how long they stay."""
    picture = Picture(960, 430, "What is in the bucket, during an upload and after it")
    picture.text(20, 32, "while a layer is uploaded", "head")
    picture.text(500, 32, "when it is published", "head")

    def key(x, y, words, what, style, width=440):
        picture.box(x, y, width, 46, style)
        picture.text(x + 12, y + 19, words, "mono")
        picture.text(x + 12, y + 37, what, "dim")

    for row, (words, what) in enumerate([
        ("uploads/<uuid>/session", "the one object that changes: replaced with If-Match"),
        ("uploads/<uuid>/tail/<offset>-<nonce>", "bytes that fill no part yet; never changed"),
        ("repositories/<escaped name>/_claims/…", "which upload brings a declared id; only if one is"),
    ]):
        key(20, 48 + 60 * row, words, what, "passing")
    key(20, 228, "data/<2 hex>/<uuid>.<n>", "multipart upload n: parts 1, 2, 3, …", "data")
    for row, (words, what) in enumerate([
        ("layers/sha256/<2 hex>/<hex>", "record: the data or, up to 16 KiB, the bytes; ids, checksums"),
        ("layers/sha512/…   layers/tarsum/…", "aliases: the same record under another id"),
        ("repositories/<escaped name>/_layers/…", "link: the layer is in this repository; repeats the record"),
    ]):
        key(500, 48 + 60 * row, words, what, "lasting")
    key(500, 228, "data/<2 hex>/<uuid>.<n>", "segment n, completed in place: bytes never move", "data")
    picture.arrow(462, 251, 498, "")
    picture.text(480, 300, "Complete", "mono", "middle")
    # Record and link name the data.
    picture.path([(940, 71), (952, 71), (952, 251), (944, 251)], "line")
    picture.path([(940, 191), (952, 191)], "line")
    picture.path([(480, 286), (480, 258)], "line")

    y = 330
    for x, style, words in [
        (20, "passing", "removed when the upload ends, or by a sweep"),
        (500, "lasting", "small; created with If-None-Match"),
    ]:
        picture.box(x, y, 18, 18, style)
        picture.text(x + 28, y + 14, words)
    picture.box(20, y + 30, 18, 18, "data")
    picture.text(48, y + 44, "the bytes of the layer, under keys with the UUID of the upload")
    picture.text(20, y + 82, "The session is the first object of an upload and the last to be removed: data without a session is published.", "dim")
    return picture.svg()


def main():
    wrong = False
    for name, svg in [("push.svg", push()), ("bucket.svg", bucket())]:
        path = HERE / name
        if "--check" not in sys.argv[1:]:
            path.write_text(svg)
        elif not path.exists() or path.read_text() != svg:
            print(f"{path.name} is not what docs/draw.py draws")
            wrong = True
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
