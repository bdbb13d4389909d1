// A control for the harness itself: offers stdio servers over Streamable HTTP (legacy era), one process
// per session, by passing every message through unchanged. A cell that is red here is the harness's fault.
// Usage: relay.mjs UPSTREAMS.json, a map from name to {command, args, env, cwd}; serves each at /<name>.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

import { fromPackages } from '../clients/steps.mjs';

const { StdioClientTransport } = fromPackages('@modelcontextprotocol/sdk/client/stdio.js');
const { StreamableHTTPServerTransport } = fromPackages('@modelcontextprotocol/sdk/server/streamableHttp.js');

const upstreams = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const sessions = new Map();
const processes = new Set();

async function open(name) {
    const server = new StdioClientTransport({ ...upstreams[name], stderr: 'inherit' });
    const client = new StreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        onsessioninitialized: (id) => void sessions.set(id, client),
    });
    const open = new Set();
    processes.add(server);
    server.onclose = () => processes.delete(server);
    client.onmessage = (message) => {
        if (message.method !== undefined && message.id !== undefined) open.add(message.id);
        server.send(message).catch((error) => console.error(error));
    };
    server.onmessage = (message) => {
        // What arrives during a single open request travels on that request's stream.
        const options = open.size === 1 ? { relatedRequestId: [...open][0] } : {};
        if (message.method === undefined) open.delete(message.id);
        client.send(message, message.method === undefined ? {} : options).catch((error) => console.error(error));
    };
    client.onclose = () => {
        sessions.delete(client.sessionId);
        server.close().catch((error) => console.error(error));
    };
    await Promise.all([server.start(), client.start()]);
    return client;
}

async function handle(request, response) {
    const name = request.url.slice(1);
    const known = sessions.get(request.headers['mcp-session-id']);
    if (!(name in upstreams)) return response.writeHead(404).end();
    if (known) return known.handleRequest(request, response);
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = chunks.length > 0 ? JSON.parse(Buffer.concat(chunks)) : undefined;
    if (body?.method !== 'initialize') return response.writeHead(400).end('no session');
    await (await open(name)).handleRequest(request, response, body);
}

const http = createServer((request, response) =>
    handle(request, response).catch((error) => {
        console.error(error);
        response.writeHead(500).end();
    }),
);
http.listen(0, '127.0.0.1', () => {
    for (const name of Object.keys(upstreams)) {
        console.log(`ready http://127.0.0.1:${http.address().port}/${name}`);
    }
});
process.on('SIGTERM', async () => {
    await Promise.all([...processes].map((server) => server.close()));
    process.exit(0);
});
