"""A job's image by its digest: what is signed shall be what runs, and a tag may mean something else tomorrow."""

from __future__ import annotations

import os
from typing import Final

import msgspec

from dms.config import Config
from dms.executors.oci.engine import EngineError
from dms.executors.oci.finding import find_engine, sockets
from dms.jobs.spec import JobSpec
from dms_proto.errors import MachineError, UserError
from dms_proto.images import is_image, name_of

HOW: Final = (
    "write it as NAME@sha256:…, which `docker buildx imagetools inspect NAME` or `skopeo inspect docker://NAME` shows"
)


async def pin_image(spec: JobSpec, config: Config) -> JobSpec:
    """The job with its image by digest, as this machine's container engine knows it, or as the registry tells the engine.

    Raises:
        UserError: `bad_job`: the digest is not to be had here.
    """
    if not spec.image:
        return spec
    if not is_image(spec.image):
        raise UserError("bad_job", f"image: {spec.image!r} is no name of an image", hint=HOW)
    digest = await _digest_of(spec.image, config)
    task = msgspec.structs.replace(spec.task, image=f"{name_of(spec.image)}@{digest}")
    return msgspec.structs.replace(spec, task=task, image="")


async def _digest_of(image: str, config: Config) -> str:
    why = f"image: {image} is a tag, which may mean something else tomorrow; its digest could not be found out"
    try:
        engine = await find_engine(sockets(config.executors.oci_socket, os.environ, os.geteuid()))
    except MachineError as error:
        raise UserError("bad_job", f"{why}: {error.message}", hint=HOW) from error
    try:
        return await engine.digest_of(image)
    except EngineError as error:
        raise UserError("bad_job", f"{why}: {error.message}", hint=HOW) from error
    finally:
        await engine.close()
