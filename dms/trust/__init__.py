"""Grants as tokens: made, narrowed, verified and kept. What they mean is in `dms_proto.grants`; only this package knows that they are Biscuits."""
