export { gemini } from "./providers/gemini/provider.ts";
export type { GeminiLimits, QuotaTier } from "./providers/gemini/limits.ts";
export type { GeminiOptions } from "./providers/gemini/options.ts";
export {
  createWebhookHandler,
  createWebhookVerifier,
  type WebhookHandlerOptions,
  type WebhookRefusal,
  type WebhookVerdict,
  type WebhookVerifier,
  type WebhookVerifierOptions,
} from "./providers/gemini/webhook.ts";
export type { JsonWebKeySet } from "./providers/gemini/webhook-keys.ts";
