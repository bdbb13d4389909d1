// Clients of the scenarios at 2026-07-28. Each drives the gateway into sending upstream what the scenario looks at,
// and compares the answers, because a mock server that was never reached must not look like a success.
import assert from 'node:assert/strict';
import { RpcError, WireClient } from './wire.mjs';

const revision = '2026-07-28';
const methodNotFound = -32601;

function text(result) {
  assert.notEqual(result.isError, true, JSON.stringify(result));
  return result.content[0].text;
}

/** The tool of that name in a list; its absence is an error. */
function byName(tools, name) {
  const tool = tools.find((one) => one.name === name);
  assert.ok(tool, `tool ${name} is not listed: ${tools.map((one) => one.name)}`);
  return tool;
}

async function discover(client) {
  const { supportedVersions } = await client.request('server/discover');
  assert.ok(supportedVersions.includes(revision), `discover does not list ${revision}: ${supportedVersions}`);
}

async function toolsCall(url) {
  const client = new WireClient(url);
  await discover(client);
  const tool = byName(await client.tools(), 'add_numbers');
  assert.equal(text(await client.callTool(tool, { a: 5, b: 3 })), 'The sum of 5 and 3 is 8');
}

async function requestMetadata(url, { bypass }) {
  const client = new WireClient(url);
  // The mock refuses the first request that it gets. That must be the gateway's affair and not ours.
  await discover(client).catch((error) => {
    if (!bypass) throw error;
  });
  // It declares no tools, so the gateway may answer for it that it has no such method.
  const tools = await client.tools().catch((error) => {
    if (error instanceof RpcError && error.code === methodNotFound) return [];
    throw error;
  });
  assert.deepEqual(tools, []);
}

/** Asserts that a result asks for `confirm`, and gives the fields of the retry. */
function confirmation(result) {
  assert.equal(result.resultType, 'input_required', JSON.stringify(result));
  assert.deepEqual(Object.keys(result.inputRequests), ['confirm']);
  assert.equal(result.inputRequests.confirm.method, 'elicitation/create');
  const inputResponses = { confirm: { action: 'accept', content: { confirmed: true } } };
  return 'requestState' in result ? { inputResponses, requestState: result.requestState } : { inputResponses };
}

async function requestState(url) {
  const client = new WireClient(url);
  const tools = await client.tools();
  const [echo, none, unrelated, untyped] = ['echo_state', 'no_state', 'unrelated', 'no_result_type'].map((name) =>
    byName(tools, `test_mrtr_${name}`)
  );
  // Both rounds are open at once, with another call between them: nothing of one may reach another.
  const withState = confirmation(await client.callTool(echo));
  assert.equal(typeof withState.requestState, 'string');
  const withoutState = confirmation(await client.callTool(none));
  assert.ok(!('requestState' in withoutState), 'a requestState appeared that the server did not send');
  assert.equal(text(await client.callTool(unrelated)), 'unrelated-ok');
  assert.equal(text(await client.callTool(none, {}, withoutState)), 'no-state-ok');
  assert.equal(text(await client.callTool(echo, {}, withState)), 'echo-state-ok');
  assert.equal(text(await client.callTool(untyped)), 'no-result-type-test-ok');
}

async function standardHeaders(url) {
  const client = new WireClient(url);
  const tools = await client.tools();
  for (const name of ['my-hyphenated-tool', 'test_headers']) {
    assert.equal(text(await client.callTool(byName(tools, name))), 'Headers test completed');
  }
  const { resources } = await client.request('resources/list');
  const uris = resources.map((resource) => resource.uri);
  assert.deepEqual(uris, ['file:///path/to/file%20name.txt', 'https://example.com/resource?id=123']);
  for (const uri of uris) {
    assert.deepEqual((await client.request('resources/read', { uri })).contents, []);
  }
  const { prompts } = await client.request('prompts/list');
  assert.deepEqual(prompts.map((prompt) => prompt.name), ['test_prompt']);
  assert.deepEqual((await client.request('prompts/get', { name: 'test_prompt' })).messages, []);
}

async function customHeaders(url, { context }) {
  const client = new WireClient(url);
  const tools = await client.tools();
  assert.equal(context.toolCalls.length, 2);
  for (const call of context.toolCalls) {
    const result = await client.callTool(byName(tools, call.name), call.arguments);
    assert.equal(text(result), 'Custom headers test completed');
  }
}

async function invalidToolHeaders(url, { bypass }) {
  const client = new WireClient(url);
  const tools = await client.tools();
  // Against the mock itself it is us who must leave the others out.
  if (!bypass) assert.deepEqual(tools.map((tool) => tool.name), ['valid_tool']);
  const result = await client.callTool(byName(tools, 'valid_tool'), { region: 'us-west1' });
  assert.equal(text(result), 'Tool call received');
}

async function schemaReferences(url) {
  const client = new WireClient(url);
  const { properties } = byName(await client.tools(), 'lookup_user').inputSchema;
  assert.equal(properties.id.$ref, '#/$defs/userId');
  assert.match(properties.profile.$ref, /^http:\/\/localhost:\d+\/canary\//);
}

/** Scenario name to client; each takes the URL to talk to and what the suite gave along. */
export const modernScenarios = {
  tools_call: toolsCall,
  'request-metadata': requestMetadata,
  'sep-2322-client-request-state': requestState,
  'http-standard-headers': standardHeaders,
  'http-custom-headers': customHeaders,
  'http-invalid-tool-headers': invalidToolHeaders,
  'json-schema-ref-no-deref': schemaReferences
};
