/** Checks of a program without Firebase: its config, its store, the key of the Gemini API. */
import { existsSync } from "node:fs";
import { GembatchError } from "../../core/errors.ts";
import { scrub } from "../../core/scrub.ts";
import { Gembatch } from "../../index.ts";
import { loadConfig } from "../config.ts";
import { messageOf } from "../init/steps.ts";
import { failed, ok, warning, type Check } from "./checks.ts";

export interface PlainContext {
  /** The config of the folder, or of `--config`. */
  gembatch: Gembatch;
  hasConfig: boolean;
  env: NodeJS.ProcessEnv;
}

/** The instance of gembatch.config.ts, else one of the environment. */
export async function openPlain(config: string | undefined, folder: string, env: NodeJS.ProcessEnv): Promise<PlainContext> {
  const found = await loadConfig(config, folder);
  return { gembatch: found?.gembatch ?? new Gembatch({ autoWorker: false }), hasConfig: found !== undefined, env };
}

export function plainChecks({ gembatch, hasConfig, env }: PlainContext): Check[] {
  const { store, providers } = gembatch.info;
  return [
    {
      id: "config",
      title: "gembatch.config.ts",
      look: async () => (hasConfig ? ok("loads") : ok("there is none in this folder: the environment says which store and provider")),
    },
    {
      id: "store",
      title: `store ${store}`,
      look: async () => {
        const path = /^sqlite:(?:\/\/)?(?!:memory:)(.+)$/.exec(store)?.[1];
        if (path !== undefined && !existsSync(path)) return warning("is not there yet: the first run makes it");
        try {
          const { runs } = await gembatch.stats();
          const total = Object.values(runs).reduce((sum, count) => sum + count, 0);
          return ok(`opens, with ${total.toLocaleString("en")} runs`);
        } catch (error) {
          return failed(messageOf(error), "see the message; --store and GEMBATCH_STORE say which store");
        }
      },
    },
    ...(providers.includes("gemini") ? [geminiCheck(env)] : []),
  ];
}

const aiStudio = "https://aistudio.google.com/apikey";

/** Asks for one model, which costs nothing. */
function geminiCheck(env: NodeJS.ProcessEnv): Check {
  const base = (env["GOOGLE_GEMINI_BASE_URL"]?.trim() || "https://generativelanguage.googleapis.com").replace(/\/+$/, "");
  return {
    id: "gemini",
    title: "key of the Gemini API",
    look: async () => {
      const key = env["GEMINI_API_KEY"]?.trim() || env["GOOGLE_API_KEY"]?.trim();
      if (key === undefined || key === "")
        return failed("GEMINI_API_KEY is not set", `get a key at ${aiStudio}, then: export GEMINI_API_KEY=…`);
      let response: Response;
      try {
        response = await fetch(`${base}/v1beta/models?pageSize=1`, {
          headers: { "x-goog-api-key": key },
          signal: AbortSignal.timeout(20_000),
        });
      } catch (cause) {
        throw new GembatchError("provider_error", `${base} cannot be reached.`, { hint: "Check the network.", cause });
      }
      if (response.ok) return ok("is accepted");
      const { error } = (await response.json().catch(() => ({}))) as { error?: { message?: string } };
      return failed(
        `is refused (HTTP ${response.status}): ${scrub(error?.message ?? "no reason given")}`,
        `get another key at ${aiStudio}`,
      );
    },
  };
}
