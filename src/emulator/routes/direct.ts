/**
 * Prompts that are answered at once: their tier, its faults, and what they cost.
 *
 * @module
 */
import type { LedgerDirectCall } from "../ledger.ts";
import { promptTokens } from "../prompt.ts";
import { hashOf } from "../rows.ts";
import type { Service } from "../service.ts";
import { isObject, quotaError, WireError, type JsonObject, type WireStatus } from "../wire.ts";
import { serverError } from "./batches.ts";
import { breakConnection, type Handler } from "./context.ts";

type DirectTier = LedgerDirectCall["tier"];

/** HTTP's view of the gRPC codes that scripts and faults may give a row. */
const statusOfCode: Record<number, WireStatus> = {
  1: "CANCELLED",
  3: "INVALID_ARGUMENT",
  5: "NOT_FOUND",
  7: "PERMISSION_DENIED",
  8: "RESOURCE_EXHAUSTED",
  9: "FAILED_PRECONDITION",
  14: "UNAVAILABLE",
};

/** Handlers of direct calls, with the fault that loses their answers. */
export const direct =
  (handler: Handler): Handler =>
  async (service, context, target) => {
    const response = await handler(service, context, target);
    return service.faults.hit("directAnswerLost", target.id) ? breakConnection(context) : response;
  };

/** Answers one prompt at the tier that it asks for, and bills it. Embeddings have no tiers. */
export async function askDirectly(
  service: Service,
  request: JsonObject,
  { model, method }: Pick<LedgerDirectCall, "model" | "method">,
): Promise<JsonObject> {
  const tier = method === "embedContent" ? "standard" : tierOf(request.serviceTier);
  if (tier === "flex") shed(service, model);
  const hash = hashOf(request, model);
  const call = service.book.asked({ model, method, tier, hash, at: service.clock.now() });
  const slow = tier === "flex" ? service.faults.hit("flexSlow", model) : undefined;
  if (slow) await service.clock.sleep(slow.ms ?? 1_000);
  const info = { model, key: "", index: 0, job: undefined, displayName: "", method, hash };
  const { response, error } = await service.answering.answer(request, info, service.faults.settings);
  if (response === undefined) throw new WireError(statusOfCode[error.code] ?? "INTERNAL", error.message);
  const usage = isObject(response.usageMetadata) ? response.usageMetadata : undefined;
  call.billed = true;
  call.promptTokens = usage ? Number(usage.promptTokenCount ?? 0) : promptTokens(request);
  call.outputTokens = Number(usage?.candidatesTokenCount ?? 0) + Number(usage?.thoughtsTokenCount ?? 0);
  service.book.billed(tier, [hash], call.promptTokens, call.outputTokens);
  return usage ? { ...response, usageMetadata: { serviceTier: tier, ...usage } } : response;
}

function shed(service: Service, model: string): void {
  const hit = service.faults.hit("flexShed", model);
  if (hit) throw hit.code === 429 ? quotaError() : serverError({ ...hit, code: 503 });
}

/** `flex`, `FLEX` and `SERVICE_TIER_FLEX` are the same; nothing is `standard`. */
function tierOf(value: unknown): DirectTier {
  const name = typeof value === "string" ? value.toLowerCase().replace(/^service_tier_/, "") : value;
  if (name === undefined || name === null || name === "" || name === "unspecified" || name === "standard") return "standard";
  if (name === "flex" || name === "priority") return name;
  throw new WireError(
    "INVALID_ARGUMENT",
    `Invalid value at 'service_tier' (google.ai.generativelanguage.v1main.ServiceTier), ${JSON.stringify(value)}`,
  );
}
