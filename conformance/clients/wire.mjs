// A bare client of revision 2026-07-28: one POST per request, nothing retried, nothing hidden, nothing remembered.
// It is deliberately simple, so that what the suite's mock server sees is the gateway's doing and not an SDK's.

const revision = '2026-07-28';
const requestTimeoutMs = 8_000;

/** What the client says it can do: everything that `request-metadata` knows a check for. */
const capabilities = { roots: {}, sampling: {}, elicitation: {} };

/** A JSON-RPC error answer. */
export class RpcError extends Error {
  constructor(method, status, error) {
    super(`${method}: HTTP ${status}, error ${error.code}: ${error.message}`);
    this.code = error.code;
  }
}

/** The form of a header value: plain if visible ASCII, else Base64 in its wrapper. */
function headerValue(value) {
  const plain = String(value);
  const unsafe = /[^\x20-\x7e]/.test(plain) || plain !== plain.trim() || /^=\?base64\?.*\?=$/.test(plain);
  return unsafe ? `=?base64?${Buffer.from(plain).toString('base64')}?=` : plain;
}

/** `Mcp-Param-*` for the arguments that the tool's schema designates. */
function paramHeaders(tool, args) {
  const headers = {};
  for (const [name, schema] of Object.entries(tool?.inputSchema?.properties ?? {})) {
    const value = args?.[name];
    if (schema['x-mcp-header'] && value !== undefined && value !== null) {
      headers[`Mcp-Param-${schema['x-mcp-header']}`] = headerValue(value);
    }
  }
  return headers;
}

/** The client; `url` is the MCP endpoint. */
export class WireClient {
  #url;
  #lastId = 0;

  constructor(url) {
    this.#url = url;
  }

  /** Sends one request and returns its result; throws RpcError for an error answer. */
  async request(method, params = {}, extraHeaders = {}) {
    const id = ++this.#lastId;
    const meta = {
      'io.modelcontextprotocol/protocolVersion': revision,
      'io.modelcontextprotocol/clientInfo': { name: 'enfilade-conformance', version: '1.0.0' },
      'io.modelcontextprotocol/clientCapabilities': capabilities
    };
    const headers = {
      'Content-Type': 'application/json',
      Accept: 'application/json, text/event-stream',
      'MCP-Protocol-Version': revision,
      'Mcp-Method': method,
      ...extraHeaders
    };
    const name = params.name ?? params.uri;
    if (name !== undefined) headers['Mcp-Name'] = headerValue(name);
    const body = JSON.stringify({ jsonrpc: '2.0', id, method, params: { ...params, _meta: meta } });
    const signal = AbortSignal.timeout(requestTimeoutMs);
    const response = await fetch(this.#url, { method: 'POST', headers, body, signal });
    const message = await answer(response, id, method);
    if (message.error) throw new RpcError(method, response.status, message.error);
    return message.result;
  }

  /** Calls a tool; `tool` is its entry in the list, for the headers that it designates. */
  callTool(tool, args = {}, more = {}) {
    return this.request('tools/call', { name: tool.name, arguments: args, ...more }, paramHeaders(tool, args));
  }

  /** The listed tools. */
  async tools() {
    return (await this.request('tools/list')).tools;
  }
}

/** The message that answers request `id`, out of a JSON body or an event stream. */
async function answer(response, id, method) {
  const type = response.headers.get('content-type') ?? '';
  const text = await response.text();
  const bodies = type.includes('text/event-stream') ? events(text) : [text];
  const messages = bodies.filter((body) => body.trim() !== '').map((body) => JSON.parse(body));
  const found = messages.find((message) => message.id === id && ('result' in message || 'error' in message));
  if (!found) throw new Error(`${method}: HTTP ${response.status} without an answer: ${text.slice(0, 300)}`);
  return found;
}

/** The data of each event of a finished stream. */
function events(text) {
  return text.split(/\r?\n\r?\n/).map((event) =>
    event
      .split(/\r?\n/)
      .filter((line) => line.startsWith('data:'))
      .map((line) => line.slice(5).trimStart())
      .join('\n')
  );
}
