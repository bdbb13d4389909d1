// Clients of the scenarios at 2025-11-25, on the TypeScript SDK 1.x: what a host of today would do.
import assert from 'node:assert/strict';
import { need } from '../lib/paths.mjs';

const { Client } = need('@modelcontextprotocol/sdk/client/index.js');
const { StreamableHTTPClientTransport } = need('@modelcontextprotocol/sdk/client/streamableHttp.js');
const { ElicitRequestSchema } = need('@modelcontextprotocol/sdk/types.js');

const methodNotFound = -32601;

/** Connects, hands the client to `work`, ends the session. */
async function withClient(url, capabilities, work) {
  const client = new Client({ name: 'enfilade-conformance', version: '1.0.0' }, { capabilities });
  const transport = new StreamableHTTPClientTransport(new URL(url));
  if (capabilities.elicitation) {
    // Accepts without content: the SDK fills in the defaults of the requested schema.
    client.setRequestHandler(ElicitRequestSchema, () => ({ action: 'accept', content: {} }));
  }
  await client.connect(transport);
  try {
    await work(client);
    // Not supported by every mock (405, 404): that is the server's right.
    await transport.terminateSession().catch(() => {});
  } finally {
    await client.close();
  }
}

async function listNames(client) {
  const { tools } = await client.listTools();
  return tools.map((tool) => tool.name);
}

function text(result) {
  assert.notEqual(result.isError, true, JSON.stringify(result));
  return result.content[0].text;
}

async function initialize(url) {
  await withClient(url, {}, async (client) => {
    assert.ok(client.getServerVersion()?.name, 'the server did not introduce itself');
    // The mock declares no tools, so a gateway may answer for it that it has no such method.
    const names = await listNames(client).catch((error) => {
      assert.equal(error.code, methodNotFound, String(error));
      return [];
    });
    assert.deepEqual(names, []);
  });
}

async function toolsCall(url) {
  await withClient(url, {}, async (client) => {
    assert.deepEqual(await listNames(client), ['add_numbers']);
    const result = await client.callTool({ name: 'add_numbers', arguments: { a: 5, b: 3 } });
    assert.equal(text(result), 'The sum of 5 and 3 is 8');
  });
}

async function elicitationDefaults(url) {
  const capabilities = { elicitation: { form: { applyDefaults: true } } };
  await withClient(url, capabilities, async (client) => {
    const name = 'test_client_elicitation_defaults';
    assert.deepEqual(await listNames(client), [name]);
    const answer = text(await client.callTool({ name, arguments: {} }));
    const prefix = 'Elicitation completed: ';
    assert.ok(answer.startsWith(prefix), answer);
    assert.deepEqual(JSON.parse(answer.slice(prefix.length)), {
      name: 'John Doe',
      age: 30,
      score: 95.5,
      status: 'active',
      verified: true
    });
  });
}

async function sseRetry(url) {
  await withClient(url, {}, async (client) => {
    assert.deepEqual(await listNames(client), ['test_reconnection']);
    const result = await client.callTool({ name: 'test_reconnection', arguments: {} });
    assert.equal(text(result), 'Reconnection test completed successfully');
  });
}

/** Scenario name to client; each takes the URL to talk to. */
export const legacyScenarios = {
  initialize,
  tools_call: toolsCall,
  'elicitation-sep1034-client-defaults': elicitationDefaults,
  'sse-retry': sseRetry
};
