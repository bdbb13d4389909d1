// Plays the steps of a scenario file with a peer object and prints one JSON line per step.
// Every Node client shares this loop; it judges nothing, the runner compares what is printed.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

/** Packages live outside the source tree; INTEROP_PACKAGES names the folder above node_modules. */
export const fromPackages = createRequire(`${process.env.INTEROP_PACKAGES}/package.json`);

export const emit = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

/** What the server asked or told this client. */
export class Inbox {
    asked = [];
    #told = [];
    #waiting = [];

    ask(method, params) {
        this.asked.push({ method, params });
    }

    tell(method, params) {
        const message = { method, params };
        this.#told.push(message);
        for (const { fits, resolve } of this.#waiting) if (fits(message)) resolve(params);
    }

    /** The first such notification, past or still to come; the runner bounds the wait. */
    waitFor(method, containing = '') {
        const fits = (message) =>
            message.method === method && JSON.stringify(message.params ?? {}).includes(containing);
        const seen = this.#told.find(fits);
        if (seen) return Promise.resolve(seen.params);
        return new Promise((resolve) => this.#waiting.push({ fits, resolve }));
    }
}

/** All items of a paginated list. */
export async function pages(list, field) {
    const items = [];
    let cursor;
    do {
        const page = await list(cursor === undefined ? {} : { cursor });
        items.push(...page[field]);
        cursor = page.nextCursor;
    } while (cursor !== undefined);
    return items;
}

/** The operations that both TypeScript clients share; `client` has the SDK's method names. */
export function operations(client, inbox) {
    let lastProgress = [];
    return {
        tools: async () => (await pages((p) => client.listTools(p), 'tools')).map((tool) => tool.name),
        prompts: async () => (await pages((p) => client.listPrompts(p), 'prompts')).map((prompt) => prompt.name),
        resources: async () => (await pages((p) => client.listResources(p), 'resources')).map((r) => r.uri),
        read: (step) => client.readResource({ uri: step.uri }),
        prompt: (step) => client.getPrompt({ name: step.name, arguments: step.args ?? {} }),
        level: (step) => client.setLoggingLevel(step.level),
        subscribe: (step) => client.subscribeResource({ uri: step.uri }),
        notified: (step) => inbox.waitFor(step.method, step.containing),
        asked: async () => inbox.asked,
        progress: async () => lastProgress,
        call: (step) => {
            lastProgress = [];
            const onprogress = step.progress
                ? ({ progress, total }) => lastProgress.push([progress, total])
                : undefined;
            return client.call({ name: step.tool, arguments: step.args ?? {} }, { onprogress });
        },
    };
}

/** `connect(url, scenario, era)` resolves to `{ version, operations, close }`. */
export async function run(connect) {
    const [url, path, era] = process.argv.slice(2);
    const scenario = JSON.parse(readFileSync(path, 'utf8'));
    const peer = await connect(url, scenario, era);
    emit({ connected: peer.version });
    for (const step of scenario.steps) {
        try {
            emit({ value: await peer.operations[step.op](step) });
        } catch (error) {
            console.error(error);
            emit({ error: `${error?.name}: ${error?.message}` });
            break;
        }
    }
    await peer.close();
    emit({ done: true });
}
