"""JobSpec: a job as the node takes it. Resolved, bounded, free of paths but for where its content lies on this machine."""

from __future__ import annotations

from typing import Annotated

import msgspec

from dms_proto.capability import Capability
from dms_proto.images import AnyImage
from dms_proto.market.preferences import Preferences
from dms_proto.messages import Pricing
from dms_proto.rules import MAX_PATH, Amount, Count, GoodDigest, Word
from dms_proto.secrets import MAX_SECRETS, OpenSecret
from dms_proto.units import MINUTE
from dms_proto.verification.policy import Verification
from dms_proto.work import MAX_DATASETS, Task


class DatasetWish(msgspec.Struct, frozen=True, omit_defaults=True):
    """A dataset that a job reads.

    Attributes:
        dataset: its name, its id, or a unique beginning of it.
        place: the directory in which its files appear, below the job's; empty: as the dataset is called.
    """

    dataset: Word
    place: Annotated[str, msgspec.Meta(max_length=MAX_PATH)] = ""


class JobSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `job.submit` and `market.ask` take.

    Attributes:
        task: what every allocation runs. The node adds DMS_INDEX and DMS_COUNT to its environment, and `secrets`.
        needs: what each allocation requires of a node.
        name: for people.
        count: how many allocations.
        together: whether all of them get a place at once, or none does.
        max_price: micro-credits for one allocation run to its wall limit.
        pricing: what the winner is paid.
        budget: micro-credits for all attempts of all allocations together; 0 for no limit.
        deadline_ms: from submission until all must be over; 0 for none.
        queue_ms: how long to wait for capacity that exists but is not free, or for nodes that are there and silent.
        patience_ms: how long to wait when no known node could ever serve it; 0: end at once.
        bids_wanted: how many bids make a choice; 0: as many as the node's setting `market.bids_wanted` says.
        preferences: how bids are compared; None: as the node prefers.
        constraints: CEL expressions that must hold for a bid, beside those of `preferences`.
        retry_job_failures: distinct nodes on which the job's own failure is final.
        retry_node_faults: node faults after which a slot is given up.
        retry_checkpoints: how often an allocation goes on from a checkpoint.
        priority: order among this node's own jobs; higher first.
        verify: how its results are checked.
        sources: where on this machine the content of each input digest lies. The node copies it and checks the digest again, for a file may
            have changed since.
        image: the container image by a tag, of which the node finds the digest; empty where the task names one by digest, or none.
        node: the one node that may run it, as a person names it; empty for any.
        cache: an earlier result of this node, of the very same work, will do: see `dms.node.earlier`.
        datasets: of this node, placed below the job's directory. The node finds which they are, and adds them to the task.
        secrets: values that only the job sees. The node seals them at once: they are in no answer and in no event.
    """

    task: Task
    needs: Capability
    name: Word = ""
    count: Count = 1
    together: bool = False
    max_price: Amount = 0
    deadline_ms: Amount = 0
    queue_ms: Amount = 10 * MINUTE
    patience_ms: Amount = 0
    bids_wanted: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    preferences: Preferences | None = None
    constraints: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=1000)], ...], msgspec.Meta(max_length=32)] = ()
    retry_job_failures: Count = 2
    retry_node_faults: Amount = 5
    retry_checkpoints: Amount = 100
    priority: Amount = 0
    budget: Amount = 0
    verify: Verification = Verification()
    pricing: Pricing = Pricing.FIRST_PRICE
    sources: Annotated[
        dict[GoodDigest, Annotated[str, msgspec.Meta(max_length=4096)]], msgspec.Meta(max_length=4096)
    ] = {}
    secrets: Annotated[tuple[OpenSecret, ...], msgspec.Meta(max_length=MAX_SECRETS)] = ()
    image: AnyImage = ""
    cache: bool = False
    datasets: Annotated[tuple[DatasetWish, ...], msgspec.Meta(max_length=MAX_DATASETS)] = ()
    node: Word = ""

    def preferences_over(self, default: Preferences) -> Preferences:
        """How this job's bids are compared on a node that prefers `default`: the job's word where it has one, and all constraints of both."""
        chosen = self.preferences or default
        return msgspec.structs.replace(
            chosen, constraints=tuple(dict.fromkeys((*default.constraints, *chosen.constraints, *self.constraints)))
        )
