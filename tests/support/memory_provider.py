"""A provider of libcloud that lives in memory: what is true of any whose creates take tags."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

from libcloud.common.exceptions import BaseHTTPError
from libcloud.compute.base import Node, NodeDriver, NodeImage, NodeLocation, NodeSize
from libcloud.compute.types import NodeState

PROVIDER = "memory"
ENTRY = ("memory_provider", "MemoryNodeDriver")


class Account:
    """What the drivers of one test share."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.asked: list[Mapping[str, Any]] = []
        #: Raised by the next calls, if anything.
        self.error: Exception | None = None
        #: Whether creates lose their tags.
        self.forgetful = False
        self.ids = itertools.count(1)


class MemoryNodeDriver(NodeDriver):
    """Each list sees a node boot: it is running from the second look on."""

    #: The accounts, by key.
    accounts: ClassVar[dict[str, Account]] = {}

    def __init__(
        self, key: str, secret: str | None = None, region: str | None = None, **others: Any
    ) -> None:
        super().__init__(key, secret=secret, **others)  # type: ignore[no-untyped-call]  # untyped
        self.account = self.accounts[key]

    def create_node(  # type: ignore[override]  # as every provider's, it takes what it likes
        self,
        name: str,
        size: NodeSize,
        image: NodeImage,
        location: NodeLocation | None = None,
        ex_metadata: Mapping[str, str] | None = None,
        ex_keyname: str | None = None,
        ex_userdata: str | None = None,
        ex_color: str | None = None,
    ) -> Node:
        """A node that builds."""
        self._fail()
        asked = {
            "size": size.id,
            "image": image.id,
            "location": location and location.id,
            "key": ex_keyname,
            "data": ex_userdata,
            "color": ex_color,
        }
        self.account.asked.append(asked)
        cloud_id = str(next(self.account.ids))
        extra = {"metadata": {} if self.account.forgetful else dict(ex_metadata or {})}
        node = Node(
            cloud_id, name, NodeState.PENDING, [], [f"10.0.0.{cloud_id}"], self, extra=extra
        )
        self.account.nodes[cloud_id] = node
        return Node(cloud_id, name, NodeState.PENDING, [], [], self, extra=extra)

    def list_nodes(self, *_: Any, **__: Any) -> list[Node]:
        """All nodes."""
        self._fail()
        found = list(self.account.nodes.values())
        for node in found:
            node.state = NodeState.RUNNING
        return found

    def destroy_node(self, node: Node) -> bool:
        """It is gone at once."""
        self._fail()
        if self.account.nodes.pop(str(node.id), None) is None:
            raise BaseHTTPError(404, "no such node")  # type: ignore[no-untyped-call]  # untyped
        return True

    def list_sizes(self, *_: Any, **__: Any) -> list[NodeSize]:
        """Two sizes."""
        self._fail()
        return [NodeSize(each, f"{each} one", 1, 1, None, 0.0, self) for each in ("small", "large")]

    def list_images(self, *_: Any, **__: Any) -> list[NodeImage]:
        """Three images, two of one name."""
        return [NodeImage(str(n), name, self) for n, name in enumerate(("worker", "old", "old"), 1)]

    def list_locations(self) -> list[NodeLocation]:
        """One location."""
        return [NodeLocation("oslo", "Oslo", "NO", self)]

    def _fail(self) -> None:
        if self.account.error is not None:
            raise self.account.error
