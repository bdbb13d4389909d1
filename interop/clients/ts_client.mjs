// The interop client built on @modelcontextprotocol/client: URL SCENARIO.json legacy|modern|auto
import { fromPackages, Inbox, operations, run } from './steps.mjs';

const { Client, StreamableHTTPClientTransport } = fromPackages('@modelcontextprotocol/client');

const MODES = { legacy: 'legacy', auto: 'auto', modern: { pin: '2026-07-28' } };
const REQUESTS = {
    sampling: ['sampling/createMessage', (answer) => answer],
    elicitation: ['elicitation/create', (answer) => answer],
    roots: ['roots/list', (answer) => ({ roots: answer })],
};

async function connect(url, scenario, era) {
    const answers = scenario.answers ?? {};
    const inbox = new Inbox();
    // Only what the scenario answers is declared as a capability.
    const capabilities = Object.fromEntries(Object.keys(answers).map((key) => [key, {}]));
    const options = { capabilities, versionNegotiation: { mode: MODES[era] } };
    const client = new Client({ name: 'interop-ts-client', version: '1.0.0' }, options);
    for (const [key, answer] of Object.entries(answers)) {
        const [method, shape] = REQUESTS[key];
        client.setRequestHandler(method, ({ params }) => {
            inbox.ask(method, params);
            return shape(answer);
        });
    }
    client.fallbackNotificationHandler = async ({ method, params }) => inbox.tell(method, params);
    const transport = new StreamableHTTPClientTransport(new URL(url));
    await client.connect(transport);
    client.call = (params, requestOptions) => client.callTool(params, requestOptions);
    return {
        version: client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion,
        operations: operations(client, inbox),
        close: async () => {
            if (transport.sessionId !== undefined) await transport.terminateSession();
            await client.close();
        },
    };
}

await run(connect);
