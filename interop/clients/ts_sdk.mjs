// The interop client built on @modelcontextprotocol/sdk (legacy era only): URL SCENARIO.json legacy
import { fromPackages, Inbox, operations, run } from './steps.mjs';

const { Client } = fromPackages('@modelcontextprotocol/sdk/client/index.js');
const { StreamableHTTPClientTransport } = fromPackages('@modelcontextprotocol/sdk/client/streamableHttp.js');
const types = fromPackages('@modelcontextprotocol/sdk/types.js');

const REQUESTS = {
    sampling: [types.CreateMessageRequestSchema, (answer) => answer],
    elicitation: [types.ElicitRequestSchema, (answer) => answer],
    roots: [types.ListRootsRequestSchema, (answer) => ({ roots: answer })],
};

async function connect(url, scenario) {
    const answers = scenario.answers ?? {};
    const inbox = new Inbox();
    // Only what the scenario answers is declared as a capability.
    const capabilities = Object.fromEntries(Object.keys(answers).map((key) => [key, {}]));
    const client = new Client({ name: 'interop-ts-sdk', version: '1.0.0' }, { capabilities });
    for (const [key, answer] of Object.entries(answers)) {
        const [schema, shape] = REQUESTS[key];
        client.setRequestHandler(schema, ({ method, params }) => {
            inbox.ask(method, params);
            return shape(answer);
        });
    }
    client.fallbackNotificationHandler = async ({ method, params }) => inbox.tell(method, params);
    const transport = new StreamableHTTPClientTransport(new URL(url));
    await client.connect(transport);
    client.call = (params, options) => client.callTool(params, undefined, options);
    return {
        version: transport.protocolVersion,
        operations: operations(client, inbox),
        close: async () => {
            await transport.terminateSession();
            await client.close();
        },
    };
}

await run(connect);
