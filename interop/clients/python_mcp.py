"""The interop client built on the Python package `mcp`: URL SCENARIO.json legacy|modern|auto."""

import asyncio
import json

from mcp import Client, types

from steps import emit, play, run, wire

MODES = {"legacy": "legacy", "auto": "auto", "modern": "2026-07-28"}


class Inbox:
    """What the server asked or told this client, and the scenario's fixed answers."""

    def __init__(self, answers):
        self.answers = answers
        self.asked = []
        self.told = []
        self.news = asyncio.Condition()

    def _ask(self, method, params):
        self.asked.append({"method": method, "params": wire(params) if params else {}})

    async def sampling(self, _context, params):
        self._ask("sampling/createMessage", params)
        return types.CreateMessageResult.model_validate(self.answers["sampling"])

    async def elicitation(self, _context, params):
        self._ask("elicitation/create", params)
        return types.ElicitResult.model_validate(self.answers["elicitation"])

    async def roots(self, _context):
        self._ask("roots/list", None)
        return types.ListRootsResult.model_validate({"roots": self.answers["roots"]})

    async def message(self, message):
        if isinstance(message, Exception):
            raise message
        async with self.news:
            self.told.append(wire(message))
            self.news.notify_all()

    async def wait_for(self, method, containing):
        """The first such notification, past or still to come; the runner bounds the wait."""

        def found():
            for message in self.told:
                params = message.get("params", {})
                if message["method"] == method and containing in json.dumps(params):
                    return params
            return None

        async with self.news:
            return await self.news.wait_for(found)

    def callbacks(self):
        """Only what the scenario answers is declared as a capability."""
        known = {
            "sampling": ("sampling_callback", self.sampling),
            "elicitation": ("elicitation_callback", self.elicitation),
            "roots": ("list_roots_callback", self.roots),
        }
        chosen = {known[key][0]: known[key][1] for key in self.answers}
        return chosen | {"message_handler": self.message}


class Peer:
    """The scenario's operations on one connected client."""

    def __init__(self, client, inbox):
        self.client = client
        self.inbox = inbox
        self.last_progress = []

    async def _pages(self, method, field):
        items, cursor = [], None
        while True:
            page = await method(cursor=cursor)
            items += getattr(page, field)
            cursor = page.next_cursor
            if cursor is None:
                return items

    async def tools(self, _step):
        return [tool.name for tool in await self._pages(self.client.list_tools, "tools")]

    async def prompts(self, _step):
        return [prompt.name for prompt in await self._pages(self.client.list_prompts, "prompts")]

    async def resources(self, _step):
        found = await self._pages(self.client.list_resources, "resources")
        return [str(resource.uri) for resource in found]

    async def call(self, step):
        self.last_progress = []
        wanted = self._on_progress if step.get("progress") else None
        args = step.get("args", {})
        return wire(await self.client.call_tool(step["tool"], args, progress_callback=wanted))

    async def _on_progress(self, progress, total, message):
        self.last_progress.append([progress, total])

    async def progress(self, _step):
        return self.last_progress

    async def read(self, step):
        return wire(await self.client.read_resource(step["uri"]))

    async def prompt(self, step):
        return wire(await self.client.get_prompt(step["name"], step.get("args", {})))

    async def level(self, step):
        return wire(await self.client.set_logging_level(step["level"]))

    async def subscribe(self, step):
        return wire(await self.client.subscribe_resource(step["uri"]))

    async def notified(self, step):
        return await self.inbox.wait_for(step["method"], step.get("containing", ""))

    async def asked(self, _step):
        return self.inbox.asked


async def session(url, scenario, era):
    inbox = Inbox(scenario.get("answers", {}))
    async with Client(url, mode=MODES[era], **inbox.callbacks()) as client:
        emit({"connected": client.protocol_version})
        await play(Peer(client, inbox), scenario)


run(session)
