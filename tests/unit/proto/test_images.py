from __future__ import annotations

import msgspec
import pytest

from dms_proto.images import MAX_IMAGE, PinnedImage, is_image, name_of, pinned, registry_of

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "name", "registry", "by_digest"),
    [
        ("busybox", "busybox", "docker.io", ""),
        ("busybox:1.36", "busybox", "docker.io", ""),
        (f"busybox@{DIGEST}", "busybox", "docker.io", f"busybox@{DIGEST}"),
        (f"library/busybox:1.36@{DIGEST}", "library/busybox", "docker.io", f"library/busybox@{DIGEST}"),
        (f"ghcr.io/lab/tool@{DIGEST}", "ghcr.io/lab/tool", "ghcr.io", f"ghcr.io/lab/tool@{DIGEST}"),
        (f"localhost/x@{DIGEST}", "localhost/x", "localhost", f"localhost/x@{DIGEST}"),
        (f"10.0.0.5:5000/x@{DIGEST}", "10.0.0.5:5000/x", "10.0.0.5:5000", f"10.0.0.5:5000/x@{DIGEST}"),
        (DIGEST, "", "", DIGEST),
    ],
)
def test_a_name_is_taken_apart(text: str, name: str, registry: str, by_digest: str) -> None:
    assert is_image(text)
    assert (name_of(text), registry_of(text), pinned(text)) == (name, registry, by_digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Busybox",
        "a//b",
        "a b",
        "../x",
        "a@sha256:12",
        f"@{DIGEST}",
        f"a@{DIGEST}\n",
        "-x",
        "http://a/b",
        "a" * 513,
    ],
)
def test_what_is_no_name_is_told(text: str) -> None:
    assert not is_image(text)
    assert pinned(text) == ""


@pytest.mark.parametrize("text", ["", DIGEST, f"ghcr.io/lab/tool@{DIGEST}"])
def test_what_is_sent_is_by_digest(text: str) -> None:
    assert msgspec.convert(text, PinnedImage) == text


@pytest.mark.parametrize(
    "text",
    ["busybox", "busybox:1", f"x:1@{DIGEST}", f"{DIGEST}\n", "x@sha256:" + "0" * 63, "a/" * MAX_IMAGE + f"a@{DIGEST}"],
)
def test_nothing_else_is_sent(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text, PinnedImage)
