/** The conformance suite against a small service written from the wire facts alone, independent of our emulator. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it } from "vitest";
import { type ProviderControl, testProvider } from "../../testing/provider-conformance.ts";
import { gemini } from "./provider.ts";

for (const mode of ["file", "inline"] as const) {
  testProvider(
    { describe, it, expect },
    {
      name: `gemini, ${mode}`,
      uploads: mode === "file",
      async create() {
        const service = await startService();
        return { provider: gemini({ apiKey: "k", baseUrl: service.url, mode }), control: service.control, dispose: service.stop };
      },
    },
  );
}

interface Job {
  name: string;
  token: string;
  state: string;
  createTime: string;
  rows: { key: string; request: unknown }[];
  inline: boolean;
  embeds: boolean;
  end: string;
  output?: object[];
}

const embedding = { embedding: { values: [0.25, 0.5] } };
const generated = (text: string) => ({ candidates: [{ content: { parts: [{ text }] } }] });

async function startService() {
  const files = new Map<string, string>();
  const jobs: Job[] = [];
  const uploads = new Map<string, Buffer[]>();
  let createFault: string | undefined;
  let callFault: string | undefined;
  let calls = 0;
  let cutDownload = false;
  let nextEnd = "SUCCEEDED";
  let failing: Readonly<Record<string, number>> = {};
  let missing: readonly string[] = [];
  let ids = 0;
  const newId = (): string => `x${String((ids += 1)).padStart(35, "0")}`;

  const operation = (job: Job, listed: boolean): object => {
    const done = !/PENDING|RUNNING/.test(job.state);
    const output =
      job.output &&
      (job.inline ? { inlinedResponses: { inlinedResponses: job.output } } : { responsesFile: `files/batch-${job.name.slice(8)}` });
    return {
      name: job.name,
      metadata: {
        "@type": "t",
        displayName: job.token,
        state: job.state,
        createTime: job.createTime,
        ...(output && !listed ? { output } : {}),
      },
      ...(done ? { done } : {}),
      ...(output && !listed ? { response: output } : {}),
    };
  };
  const refuse = (response: ServerResponse, code: number, status: string, message: string): void => {
    response.writeHead(code, { "content-type": "application/json" }).end(JSON.stringify({ error: { code, status, message } }));
  };
  const answer = (response: ServerResponse, value: unknown, headers = {}): void => {
    response.writeHead(200, { "content-type": "application/json", ...headers }).end(JSON.stringify(value));
  };
  const gone = "You do not have permission to access the File or it may not exist.";

  const route = (request: IncomingMessage, body: Buffer, response: ServerResponse): void => {
    const url = new URL(request.url!, "http://x");
    const { pathname } = url;
    const { method } = request;
    if (request.headers["x-goog-api-key"] !== "k") return refuse(response, 400, "INVALID_ARGUMENT", "API key not valid.");
    if (pathname === "/upload/v1beta/files") {
      const id = newId();
      uploads.set(id, []);
      return answer(response, {}, { "x-goog-upload-url": `https://elsewhere.example/session/${id}?upload_id=secret` });
    }
    if (pathname.startsWith("/session/")) {
      const id = pathname.slice(9);
      uploads.get(id)!.push(body);
      if (!String(request.headers["x-goog-upload-command"]).includes("finalize"))
        return answer(response, {}, { "x-goog-upload-status": "active" });
      const text = Buffer.concat(uploads.get(id)!).toString();
      files.set(`files/${id}`, text);
      const file = {
        name: `files/${id}`,
        sizeBytes: String(Buffer.byteLength(text)),
        createTime: "2026-11-22T10:00:00.123456789Z",
        state: "ACTIVE",
      };
      return answer(response, { file }, { "x-goog-upload-status": "final" });
    }
    const create = /^\/v1beta\/models\/([\w.-]+):(batchGenerateContent|asyncBatchEmbedContent)$/.exec(pathname);
    if (create && method === "POST") {
      const fault = createFault;
      createFault = undefined;
      if (fault === "throttled") return refuse(response, 429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).");
      if (fault === "refused") return refuse(response, 400, "INVALID_ARGUMENT", "Request contains an invalid argument.");
      const { batch } = JSON.parse(body.toString());
      const fileName = batch.inputConfig.fileName ?? batch.inputConfig.file_name;
      if (fileName && !files.has(fileName)) return refuse(response, 403, "PERMISSION_DENIED", gone);
      const rows = fileName
        ? files
            .get(fileName)!
            .split("\n")
            .filter(Boolean)
            .map((line) => JSON.parse(line))
        : batch.inputConfig.requests.requests.map((item: any) => ({ key: item.metadata.key, request: item.request }));
      const createTime = new Date(Date.UTC(2026, 10, 22) + jobs.length * 1000).toISOString();
      const job: Job = {
        name: `batches/${newId()}`,
        token: batch.displayName,
        state: "BATCH_STATE_PENDING",
        createTime,
        rows,
        inline: !fileName,
        embeds: create[2] === "asyncBatchEmbedContent",
        end: nextEnd,
      };
      nextEnd = "SUCCEEDED";
      jobs.unshift(job);
      return fault === "lost" ? void request.socket.destroy() : answer(response, operation(job, false));
    }
    const ask = /^\/v1beta\/models\/([\w.-]+):(generateContent|embedContent)$/.exec(pathname);
    if (ask && method === "POST") {
      const fault = callFault;
      callFault = undefined;
      if (ask[1] === "no-such-model") return refuse(response, 404, "NOT_FOUND", "models/no-such-model is not found for API version v1beta");
      if (fault === "throttled") return refuse(response, 503, "UNAVAILABLE", "The model is overloaded. Please try again later.");
      if (fault === "refused") return refuse(response, 400, "INVALID_ARGUMENT", "Request contains an invalid argument.");
      calls += 1;
      if (fault === "lost") return void request.socket.destroy();
      const { serviceTier = "standard" } = JSON.parse(body.toString());
      return answer(response, ask[2] === "embedContent" ? embedding : { ...generated("x"), usageMetadata: { serviceTier } });
    }
    if (pathname === "/v1beta/batches") {
      const from = Number(url.searchParams.get("pageToken") ?? 0);
      const operations = jobs.slice(from, from + 5).map((job) => operation(job, true));
      return answer(response, { operations, ...(from + 5 < jobs.length ? { nextPageToken: String(from + 5) } : {}) });
    }
    const download = /^\/v1beta\/files\/batch-(\w+):download$/.exec(pathname);
    if (download) {
      const job = jobs.find((item) => item.name === `batches/${download[1]}`);
      if (!job?.output) return refuse(response, 404, "NOT_FOUND", "gone");
      const text = job.output.map((line) => JSON.stringify(line)).join("\n");
      if (!cutDownload) return void response.writeHead(200).end(text);
      cutDownload = false;
      response
        .writeHead(200, { "content-length": Buffer.byteLength(text) })
        .write(text.slice(0, text.length / 2), () => request.socket.destroy());
      return;
    }
    if (pathname.startsWith("/v1beta/files/") && method === "DELETE") {
      return files.delete(pathname.slice(8)) ? answer(response, {}) : refuse(response, 403, "PERMISSION_DENIED", gone);
    }
    const [name, verb] = pathname.slice(8).split(":") as [string, string?];
    const index = jobs.findIndex((job) => job.name === name);
    if (index === -1) return refuse(response, 404, "NOT_FOUND", "Requested entity was not found.");
    if (method === "DELETE") jobs.splice(index, 1);
    else if (verb === "cancel") jobs[index]!.state = "BATCH_STATE_CANCELLED";
    else return answer(response, operation(jobs[index]!, false));
    answer(response, {});
  };

  const server = createServer(async (request, response) => {
    const body: Buffer[] = [];
    for await (const chunk of request) body.push(chunk);
    route(request, Buffer.concat(body), response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));

  const unfinished = (): Job[] => jobs.filter((job) => /PENDING|RUNNING/.test(job.state));
  const control: ProviderControl = {
    countJobs: async () => jobs.length,
    async finishJobs() {
      for (const job of unfinished()) {
        job.state = `BATCH_STATE_${job.end}`;
        if (job.end !== "SUCCEEDED") continue;
        const rows = job.rows.filter(({ key }) => !missing.includes(key)).toReversed();
        job.output = rows.map(({ key }) => {
          const said = failing[key]
            ? { error: { code: failing[key], message: "an internal error" } }
            : { response: job.embeds ? embedding : generated(`\u2028${key}`) };
          return job.inline ? { ...said, metadata: { key } } : { ...said, key };
        });
      }
    },
    async breakRows(rows) {
      ({ failing, missing } = rows);
    },
    async endNextJob(state) {
      nextEnd = state.toUpperCase();
    },
    async breakNextCreate(fault) {
      createFault = fault;
    },
    async breakNextDownload() {
      cutDownload = true;
    },
    async expireInputs() {
      files.clear();
    },
    countCalls: async () => calls,
    async breakNextCall(fault) {
      callFault = fault;
    },
  };
  const stop = (): Promise<void> => new Promise((resolve) => (server.closeAllConnections(), server.close(() => resolve())));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, control, stop };
}
