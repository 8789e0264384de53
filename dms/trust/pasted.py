"""Text that people copy by hand: a prefix that names its form, base64url, and a checksum that finds what was cut off or mistyped.

::

    PREFIX base64url( body ‖ first 4 bytes of its SHA-256 )
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final, NamedTuple

from dms_proto.errors import UserError

_CHECK_BYTES: Final = 4


class Form(NamedTuple):
    """A kind of text.

    Attributes:
        prefix: what it begins with, the colon included; the digit before it is the form's version.
        what: "invitation".
        code: of the error that refuses a text.
        hint: where a good one comes from.
    """

    prefix: str
    what: str
    code: str
    hint: str

    def write(self, body: bytes) -> str:
        """The text that carries `body`."""
        return self.prefix + base64.urlsafe_b64encode(body + _check(body)).decode().rstrip("=")

    def read(self, text: str) -> bytes:
        """The body of a text; line breaks and blanks do no harm.

        Raises:
            UserError: the form's code: damaged, cut off, of a newer form, or another text altogether.
        """
        text = "".join(text.split())  # terminals and mail wrap long lines
        if not text.startswith(self.prefix):
            name, _, _ = text.partition(":")
            newer = name != text and name[:-1] == self.prefix[:-2] and name[-1].isdigit()
            what = "of a newer form" if newer else f"no {self.what}: those begin with {self.prefix}"
            raise UserError(self.code, f"this is {what}", hint="upgrade dms" if newer else self.hint)
        encoded = text.removeprefix(self.prefix)
        try:
            raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise self.refused(f"is damaged: {error}") from error
        body, check = raw[:-_CHECK_BYTES], raw[-_CHECK_BYTES:]
        if _check(body) != check:
            raise self.refused("is damaged or cut off: its checksum does not match")
        return body

    def refused(self, why: str) -> UserError:
        """The error for a text that is of this form and still no good."""
        return UserError(self.code, f"the {self.what} {why}", hint=self.hint)


def _check(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECK_BYTES]
