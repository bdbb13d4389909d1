"""The harness of `make interop`: real MCP clients against real MCP servers through the gateway."""
