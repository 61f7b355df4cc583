"""Objects that travel with their message: what a node's calls for each of them would have done, by the same handlers."""
from __future__ import annotations

from typing import Any

from flwr.proto import fleet_pb2, message_pb2
from flwr.server.superlink.linkstate import LinkState
from flwr.superlink.servicer.fleet import fleet_handlers

from poweranger.bundle import LARGEST, object_ids


def objects_of(answer: fleet_pb2.PullMessagesResponse, held: set[str], node: Any, state: LinkState) -> list[bytes]:
    """The objects of a pulled message that the node does not hold, in the tree's order, and the message confirmed.

    When they are too large together, or one is not here yet: none, and nothing confirmed.
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
    confirm = message_pb2.ConfirmMessageReceivedRequest(node=node, run_id=run_id, message_object_id=tree.object_id)
    fleet_handlers.confirm_message_received(confirm, state, state.object_store)
    return contents


def store_objects(request: fleet_pb2.PushMessagesRequest, answer: fleet_pb2.PushMessagesResponse, contents: list[bytes], state: LinkState) -> None:
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
