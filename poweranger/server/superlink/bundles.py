"""Objects that travel with their message: what a node's calls for each of them would have done, by the same handlers."""
from __future__ import annotations

from collections.abc import Set
from typing import Any

from flwr.proto import fleet_pb2, message_pb2
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.superlink.servicer.fleet import fleet_handlers

from poweranger.bundle import LARGEST, object_ids


class Deliveries:
    """The messages that nodes were given and have not shown to have got: a link may be cut while an answer is on its way."""

    def __init__(self, state: InMemoryLinkState) -> None:
        self._state = state
        self._open: dict[int, fleet_pb2.PullMessagesResponse] = {}

    def pull(self, request: fleet_pb2.PullMessagesRequest, got: str) -> fleet_pb2.PullMessagesResponse:
        """Flower's handler's answer, or once more the last one when the node, whose last message is `got`, has not seen it."""
        node_id, state = request.node.node_id, self._state
        answer = self._open.pop(node_id, None)
        if answer is not None:
            message_id = answer.messages_list[0].metadata.message_id
            if message_id != got and self._wanted(message_id):
                self._open[node_id] = answer
                return answer
            state.object_store.delete(message_id)
        answer = fleet_handlers.pull_messages(request, state, state.object_store)
        if answer.messages_list:
            self._open[node_id] = answer
        return answer

    def forget(self, node_id: int) -> None:
        """The node starts anew: nothing is on its way to it."""
        self._open.pop(node_id, None)

    def _wanted(self, message_id: str) -> bool:
        state = self._state
        return message_id in state.message_ins_store and message_id not in state.message_ins_id_to_message_res_id


def objects_of(answer: fleet_pb2.PullMessagesResponse, held: Set[str], node: Any, state: InMemoryLinkState) -> list[bytes]:
    """The objects of a pulled message that the node does not hold, in the tree's order.

    When they are too large together, or one is not here yet: none.
    """
    (message,), (tree,) = answer.messages_list, answer.message_object_trees
    run_id = message.metadata.run_id
    contents: list[bytes] = []
    for object_id in object_ids(tree):
        if object_id in held:
            continue
        pulled = fleet_handlers.pull_object(message_pb2.PullObjectRequest(node=node, run_id=run_id, object_id=object_id), state)
        contents.append(pulled.object_content)
        if not pulled.object_available or sum(map(len, contents)) > LARGEST:
            return []
    return contents


def store_objects(request: fleet_pb2.PushMessagesRequest, answer: fleet_pb2.PushMessagesResponse, contents: list[bytes], state: InMemoryLinkState) -> None:
    """Store the objects of an answer, given in the tree's order; `objects_to_push` then names the message if it was not taken."""
    wanted, stored = set(answer.objects_to_push), False
    ids = object_ids(request.message_object_trees[0])
    for object_id, content in zip(ids, contents, strict=True):
        push = message_pb2.PushObjectRequest(
            node=request.node, run_id=request.messages_list[0].metadata.run_id, session_id=answer.session_id,
            object_id=object_id, object_content=content,
        )
        # What is not wanted lies here already, or the answer comes too late. The message itself is the last.
        stored = object_id in wanted and fleet_handlers.push_object(push, state).stored
    del answer.objects_to_push[:]
    if not stored:
        answer.objects_to_push.append(ids[-1])
