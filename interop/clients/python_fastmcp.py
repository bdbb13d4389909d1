"""The interop client built on `fastmcp`: URL SCENARIO.json legacy|modern|auto."""

from fastmcp import Client

from steps import emit, play, run, wire

MODES = {"legacy": "legacy", "auto": "auto", "modern": "2026-07-28"}


class Peer:
    """The scenario's operations; calls use the raw variants so that the wire result is seen."""

    def __init__(self, client):
        self.client = client

    async def tools(self, _step):
        return [tool.name for tool in await self.client.list_tools()]

    async def prompts(self, _step):
        return [prompt.name for prompt in await self.client.list_prompts()]

    async def resources(self, _step):
        return [str(resource.uri) for resource in await self.client.list_resources()]

    async def call(self, step):
        return wire(await self.client.call_tool_mcp(step["tool"], step.get("args", {})))

    async def read(self, step):
        return wire(await self.client.read_resource_mcp(step["uri"]))

    async def prompt(self, step):
        return wire(await self.client.get_prompt_mcp(step["name"], step.get("args", {})))


async def session(url, scenario, era):
    async with Client(url, mode=MODES[era]) as client:
        emit({"connected": client.protocol_version})
        await play(Peer(client), scenario)


run(session)
