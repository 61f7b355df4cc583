"""The palette: every action by name."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.screen import Screen

if TYPE_CHECKING:
    from fedtui.tui.app import FedApp

Command = tuple[str, str, Callable[[], Any]]


def commands(app: FedApp, screen: Screen[Any]) -> Iterator[Command]:
    """Title, explanation and function of all that can be done now."""
    for name, title in app.places.items():
        yield f"Go to {title}", f"Show the place {title}", partial(app.action_go, name)
    yield from _of_the_place(app, screen)
    for process in app.store.processes:
        yield from _of_a_process(app, process["name"], process["name"] in app.store.active)
    yield "All up", "Start the server and the roster's clients (fedtui up)", app.action_up
    yield "All down", "Stop the clients, then the server (fedtui down)", app.action_down
    yield "Demo", "A run on made-up images, with a server and three clients (fedtui demo)", app.actions.demo
    yield "Simulation", "The whole federation in one process (fedtui simulate)", app.actions.simulate
    yield "Messages", "All messages since the interface was opened", app.action_messages
    yield "Help", "The keys that work here", app.action_help
    yield "Colours", "Light, dark, or the terminal's own (ansi-dark, ansi-light)", app.search_themes
    yield "Quit", "Leave the interface; what runs goes on if you say so", app.action_leave


def _of_the_place(app: FedApp, screen: Screen[Any]) -> Iterator[Command]:
    """What keys of the focused widget and its place do."""
    seen = set()
    for node, binding, enabled, _ in screen.active_bindings.values():
        if enabled and binding.description and node is not app and binding.action not in seen and node.parent is not app:
            seen.add(binding.action)
            title = f"{app.places.get(app.place, '')}: {binding.description}"
            yield title, f"Key {app.get_key_display(binding)}", partial(app.run_action, binding.action, default_namespace=node)


def _of_a_process(app: FedApp, name: str, runs: bool) -> Iterator[Command]:
    if runs:
        yield f"Stop {name}", f"fedtui stop {name}", partial(app.actions.act, [name], "stop")
        yield f"Restart {name}", f"fedtui restart {name}", partial(app.actions.act, [name], "restart")
        yield f"Kill {name}", f"fedtui kill {name}", partial(app.kill, [name])
    else:
        yield f"Start {name}", f"fedtui start {name}", partial(app.actions.act, [name], "start")
